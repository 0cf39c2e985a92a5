"""Loggers with one run a process: each trial has its own, begun and ended before that of the next
one.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from lightning.pytorch.loggers import Logger

from tests.conftest import Ended
from trialstack.engine.models import MLP

Command = Callable[..., Ended]


class Experiment:
    """What a logger of this kind writes to: whoever asks gets the one that is open."""

    open: ClassVar["Experiment | None"] = None
    all: ClassVar[list["Experiment"]] = []

    def __init__(self) -> None:
        self.metrics: list[dict[str, float]] = []
        self.hyperparameters: list[dict[str, Any]] = []
        self.all.append(self)

    def finish(self) -> None:
        Experiment.open = None


class OneAProcess(Logger):
    """Has the experiment that is open, or begins one."""

    def __init__(self) -> None:
        super().__init__()
        self._experiment: Experiment | None = None

    @property
    def experiment(self) -> Experiment:
        if self._experiment is None:
            self._experiment = Experiment.open = Experiment.open or Experiment()
        return self._experiment

    @property
    def name(self) -> str:
        return "one"

    @property
    def version(self) -> str:
        return "1"

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.experiment.metrics.append({**metrics, "step": step or 0})

    def log_hyperparams(self, params: dict[str, Any], *arguments: Any, **named: Any) -> None:  # type: ignore[override]
        self.experiment.hyperparameters.append(params)


class Failing(MLP):
    """Cannot train with seed 1."""

    def forward(self, images: Any) -> Any:
        if self.training and images.shape[0] > 2:
            raise RuntimeError("no")
        return super().forward(images)


@pytest.fixture(autouse=True)
def _none_open() -> Iterator[None]:
    Experiment.open = None
    Experiment.all.clear()
    yield
    assert Experiment.open is None


SWEEP = (
    "-m", "sweep=s", "seed=1,2,3", "model.hidden=[8]", "trainer.max_epochs=2",
    "trainer.limit_train_batches=2", "callbacks=none", "logger=none",
)  # fmt: skip
FAKE = "+logger.x._target_=tests.run.test_loggers.OneAProcess"


@pytest.mark.parametrize("engine", ["stacked", "eager"])
def test_each_trial_of_a_sweep_has_an_experiment_of_its_own(engine: str, command: Command) -> None:
    ended = command("train.py", *SWEEP, FAKE, f"engine={engine}")
    assert ended.code == 0, ended.err
    assert [
        [own["seed"] for own in experiment.hyperparameters] for experiment in Experiment.all
    ] == [[1], [2], [3]]
    for experiment in Experiment.all:
        assert [row["step"] for row in experiment.metrics if "train/loss" in row] == [2, 4]


def test_the_experiment_of_a_trial_that_fails_is_ended_too(command: Command) -> None:
    failing = "model._target_=tests.run.test_loggers.Failing,trialstack.models.MLP"
    ended = command("train.py", *SWEEP, FAKE, failing, "seed=1", "engine=eager")
    assert ended.code == 1, ended.err
    targets = [experiment.hyperparameters[0]["model._target_"] for experiment in Experiment.all]
    assert targets == ["tests.run.test_loggers.Failing", "trialstack.models.MLP"]


def test_wandb_has_a_run_a_trial(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    logger = (
        "+logger.x={_target_: lightning.pytorch.loggers.WandbLogger, save_dir: ${folder}, "
        "offline: true}"
    )
    ended = command("train.py", *SWEEP, logger)
    assert ended.code == 0, ended.err
    assert wandb.run is None
    for number in range(3):
        assert (
            len(list(Path(f"outputs/sweeps/s/{number}/wandb").glob("offline-run-*/*.wandb"))) == 1
        )
