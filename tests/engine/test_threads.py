"""Fewer threads for steps while others hold cores: where that changes no bit, and only there."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from tests.conftest import composed
from tests.engine.test_waiting import Others
from tests.run.test_runs import weights
from trialstack.engine import waiting
from trialstack.engine.stacked import StackedClassifier
from trialstack.engine.threads import FreeThreads
from trialstack.engine.waiting import Cores
from trialstack.run.train import train


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Sets torch's number of threads, until the test ends."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


class Steps(StackedClassifier):
    """Whose steps have the bits that `learn` makes of the number of threads."""

    def __init__(self, learn: Callable[[int], float]) -> None:
        LightningModule.__init__(self)
        self.learn = learn
        self.tried: list[int] = []

    def try_steps(self, index_RKB: Tensor) -> Tensor:
        self.tried.append(torch.get_num_threads())
        return torch.tensor(self.learn(torch.get_num_threads()))


def cores(monkeypatch: pytest.MonkeyPatch, others: float, of: int = 8) -> Cores:
    monkeypatch.setattr("os.cpu_count", lambda: of)
    return Cores(others)


@pytest.mark.parametrize(
    ("others", "learn", "taken"),
    [
        (0.0, lambda threads: 0.0, 8),
        (3.0, lambda threads: 0.0, 4),
        (5.0, lambda threads: 0.0, 2),
        (9.0, lambda threads: 0.0, 1),
        (3.0, float, 8),
        (3.0, lambda threads: float(threads == 4), 2),
    ],
)
def test_as_many_threads_as_have_a_core_and_change_no_bit(
    others: float,
    learn: Callable[[int], float],
    taken: int,
    threads: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads(8)
    callback = FreeThreads(cores(monkeypatch, others))
    callback.on_train_batch_start(Trainer(logger=False), Steps(learn), torch.zeros(1, 64, 32), 0)
    assert torch.get_num_threads() == taken
    callback.on_train_batch_end()
    assert torch.get_num_threads() == 8


def test_steps_are_tried_until_they_are_many_enough_to_tell(
    threads: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    threads(8)
    callback, module = FreeThreads(cores(monkeypatch, 3.0)), Steps(lambda threads: 0.0)
    taken = []
    for steps in (64, 64, 40, 40, 40):
        module.tried.clear()
        callback.on_train_batch_start(Trainer(logger=False), module, torch.zeros(1, steps, 32), 0)
        taken.append((module.tried[:], torch.get_num_threads()))
        callback.on_train_batch_end()
    assert taken == [([8, 4], 4), ([], 4), ([8, 4, 8, 2, 8, 1], 8), ([8, 4], 4), ([], 4)]


class Threads(Callback):
    """Sees with how many threads steps are made, and tries them as if others held cores."""

    def __init__(self) -> None:
        self.seen: set[int] = set()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.seen.add(torch.get_num_threads())
        if isinstance(pl_module, StackedClassifier):
            pl_module.try_steps(batch)


@pytest.mark.commands
@pytest.mark.parametrize("engine", ["stacked", "eager"])
@pytest.mark.parametrize("count", [1, 3])
def test_other_processes_change_no_bit(
    engine: str,
    count: int,
    threads: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    threads(2)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    monkeypatch.setattr(waiting, "Load", Others)
    monkeypatch.setattr(waiting, "_told", threading.Event())
    for others in (0.0, 1.0):
        monkeypatch.setattr(Others, "cores", others)
        monkeypatch.setattr("trialstack.run.train.LOAD", Others())
        folder = tmp_path / str(others)
        rates = [0.1 + trial / 100 for trial in range(count)]
        trials = [
            composed(
                folder / str(trial),
                *(
                    f"engine={engine}",
                    f"optimizer.lr={rate}",
                    "optimizer.momentum=0.9",
                    "model.dropout=0.2",
                ),
                *("model.hidden=[300,30]", "trainer.max_epochs=2", "test=false"),
            )
            for trial, rate in enumerate(rates)
        ]
        observer = Threads()
        assert {result.status for result in train(trials, [observer])} == {"completed"}
        assert observer.seen <= ({2} if others == 0.0 else {1, 2})
    for trial in range(count):
        idle, busy = (weights(tmp_path / others / str(trial), "last") for others in ("0.0", "1.0"))
        assert all(torch.equal(idle[name], busy[name]) for name in idle)
