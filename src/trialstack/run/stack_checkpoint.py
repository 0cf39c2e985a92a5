"""Writes the checkpoint of several trials while they train as a stack."""

import os
import time
from collections.abc import Sequence
from typing import Any

from lightning import __version__
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from trialstack.engine.stacked import StackedClassifier
from trialstack.run.checkpoints import write
from trialstack.run.early_end import early_end
from trialstack.run.stack_file import StackFile, remove_links, stack_file
from trialstack.run.state import State
from trialstack.run.timing import Timing

PAUSE = 20
"""How much longer than a checkpoint took there is none: a large stack spends 5% of its time on
them.
"""


class StackCheckpoint(Checkpoint):
    """Writes `stack.ckpt` into the first trial's folder at the end of an epoch, of every epoch if
    that takes no time.

    Args:
        states: of the trials.
        timing: gets the time that this takes.

    Attributes:
        best: by trial, what its `best.ckpt` shall hold; None if no epoch of it was finished. What
            the module keeps is newer.
        diverged: epochs (from 1) in which trials (by position) diverged.
        ended: what the `last.ckpt` of trials shall hold that ended before the others, by position.
    """

    def __init__(self, states: Sequence[State], timing: Timing) -> None:
        self.file = stack_file(states[0].folder)
        self.states = states
        self.timing = timing
        self.best: list[dict[str, Any] | None] = [None] * len(states)
        self.diverged: dict[int, int] = {}
        self.ended: dict[int, dict[str, Any]] = {}
        self._kept: dict[int, dict[str, Any]] = {}
        self._module: StackedClassifier | None = None
        self._last = False
        self._next = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the links before there is a file: a trial without one would not go on with the
        others.
        """
        assert isinstance(pl_module, StackedClassifier)
        self._module = pl_module
        pl_module.diverged.update(self.diverged)
        self.diverged = pl_module.diverged
        pl_module.ended.update(self.ended)
        self.file.parent.mkdir(exist_ok=True)
        for state in self.states[1:]:
            link = stack_file(state.folder)
            target = os.path.relpath(self.file, link.parent)
            if not link.is_symlink() or os.readlink(link) != target:
                link.parent.mkdir(exist_ok=True)
                link.unlink(missing_ok=True)
                link.symlink_to(target)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, StackedClassifier)
        self._last = (
            early_end(trainer) is not None or trainer.current_epoch + 1 == trainer.max_epochs
        )
        with self.timing.measure("checkpoints"):
            self._keep_best(trainer, pl_module)
            if not self._last:
                self._keep_ended(trainer, pl_module)
            began = time.monotonic()
            if self._last or began >= self._next:
                trainer.save_checkpoint(self.file)
                ended = time.monotonic()
                self._next = ended + PAUSE * (ended - began)

    def _keep_best(self, trainer: Trainer, module: StackedClassifier) -> None:
        """On the device: most weights that are the best of a trial so far are not for long."""
        improved = [
            index
            for index, (state, measured) in enumerate(
                zip(self.states, module.trial_metrics, strict=True)
            )
            if index not in self.diverged
            and index not in self.ended
            and state.best.improves(measured, trainer.current_epoch + 1)
        ]
        module.keep(improved)
        self._kept.update(dict.fromkeys(improved, _header(trainer)))

    def _keep_ended(self, trainer: Trainer, module: StackedClassifier) -> None:
        ended = [
            index
            for index in module.ended
            if index not in self.ended and index not in self.diverged
        ]
        loops = {"loops": {"fit_loop": trainer.fit_loop.state_dict()}, "lr_schedulers": []}
        for index, state in module.states(ended).items():
            own = state | {"callbacks": self.states[index].of_callbacks()}
            self.ended[index] = _header(trainer) | loops | own

    def _fetch_best(self) -> None:
        if self._module is not None:
            for index, weights in self._module.best(self._kept).items():
                self.best[index] = self._kept[index] | weights
        self._kept.clear()

    def state_dict(self) -> dict[str, Any]:
        self._fetch_best()
        return {
            "folders": [
                os.path.relpath(state.folder, self.states[0].folder) for state in self.states
            ],
            "best": self.best,
            "diverged": self.diverged,
            "ended": self.ended,
            "last": self._last,
            "callbacks": [state.of_callbacks() for state in self.states],
        }

    @property
    def state_key(self) -> str:
        return "StackCheckpoint"

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.diverged, self.ended = (
            state_dict[name] for name in ("best", "diverged", "ended")
        )

    def finish(self, ended: bool) -> None:
        """Give every trial its `best.ckpt` and, if the stack has ended, its `last.ckpt` of the
        stack's checkpoint.
        """
        with self.timing.measure("checkpoints"):
            self._fetch_best()
            self._module = None
            stack = StackFile.of(self.states[0].folder) if ended else None
            if stack is not None:
                stack.split(self.best, self.diverged)
                return
            for state, best in zip(self.states, self.best, strict=True):
                if best is not None:
                    write(best, state.best.best_file)
        if not self.file.exists():
            remove_links(state.folder for state in self.states)


def _header(trainer: Trainer) -> dict[str, Any]:
    return {
        "epoch": trainer.current_epoch,
        "global_step": trainer.global_step,
        "pytorch-lightning_version": __version__,
    }
