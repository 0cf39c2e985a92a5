"""Fewer threads for a stack's steps while others hold cores, where that changes no bit of what is
learned.

A step of a small network is many products of some 10 us, at each of which all threads meet. A
thread without a core of its own has the others wait for it; one thread less has not. But how an
operation is divided among threads may decide how it rounds. So steps are tried with either number
of threads, operation by operation, before the smaller is taken.
"""

from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from trialstack.engine.stacked import StackedClassifier
from trialstack.engine.waiting import Cores

TRIED = 64
"""Minibatches of a shape that must give the same bits: fewer could do so by chance."""


class FreeThreads(Callback):
    """Has a stack's steps on a CPU computed by a half of the threads, a quarter, and so on.

    It does so while not all have a core.
    """

    def __init__(self, cores: Cores) -> None:
        self.cores = cores
        self._tried: dict[tuple[torch.Size, int], int] = {}
        self._changing: set[tuple[torch.Size, int]] = set()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if (
            not isinstance(pl_module, StackedClassifier)
            or batch.device.type != "cpu"
            or not self.cores.crowded
        ):
            return
        threads = self.cores.threads
        while threads > self.cores.free:
            threads //= 2
        while threads and not self._keeps_bits(pl_module, batch, threads):
            threads //= 2
        torch.set_num_threads(threads or self.cores.threads)

    def on_train_batch_end(self, *args: Any) -> None:
        self._take_all()

    def on_exception(self, *args: Any) -> None:
        self._take_all()

    def _take_all(self) -> None:
        if torch.get_num_threads() != self.cores.threads:
            torch.set_num_threads(self.cores.threads)

    def _keeps_bits(self, module: StackedClassifier, index_RKB: Tensor, threads: int) -> bool:
        """Whether steps with minibatches of this shape give the same bits with fewer threads."""
        case = index_RKB.shape, threads
        tried = self._tried.get(case, 0)
        if case not in self._changing and tried < TRIED:
            with_all = module.try_steps(index_RKB)
            torch.set_num_threads(threads)
            with_fewer = module.try_steps(index_RKB)
            torch.set_num_threads(self.cores.threads)
            self._tried[case] = tried = tried + module.minibatches_in(index_RKB)
            if not torch.equal(with_all, with_fewer):
                self._changing.add(case)
        return case not in self._changing and tried >= TRIED
