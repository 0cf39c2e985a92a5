"""This project's engines, as `train.py` runs them: validation, TensorBoard, metrics.csv,
checkpoints, progress bar.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import numpy as np

from benchmarks.gate import Gate
from benchmarks.task import BATCH_SIZE, VALIDATION, Task, arrays
from trialstack.data.datamodule import Arrays, ImageDataModule
from trialstack.run.progress import EpochBar
from trialstack.run.train import train as train_trials
from trialstack.run.trial import compose_trial

CONF = Path(__file__).parent.parent / "conf"


class BenchmarkData(ImageDataModule):
    """The task's arrays; there is no test."""

    dataset = "benchmark"
    class_names = tuple("0123456789")
    task: ClassVar[Task]

    def read(self) -> Arrays:
        images, labels = arrays(self.task)
        return Arrays(images, labels, images[:1], np.zeros(1, np.uint8))


class GateBar(EpochBar):
    """Waits before every epoch."""

    gate: ClassVar[Gate]

    def on_train_epoch_start(self, *arguments: Any) -> None:
        self.gate()
        super().on_train_epoch_start(*arguments)

    def on_fit_end(self, *arguments: Any) -> None:
        self.gate()


def train(task: Task, gate: Gate, engine: str, trials: int = 1, seeds: int = 1) -> None:
    """Train trials that differ in their learning rates, with so many seeds in turn."""
    BenchmarkData.task, GateBar.gate = task, gate
    rate = 0.01 if task.optimizer == "sgd" else 0.001
    common = (
        f"model={task.name}",
        f"engine={engine}",
        "data._target_=benchmarks.engines.BenchmarkData",
        f"data.val_size={VALIDATION}",
        f"data.batch_size={BATCH_SIZE}",
        "callbacks.progress._target_=benchmarks.engines.GateBar",
        f"trainer.max_epochs={task.epochs}",
        "test=false",
    )
    with TemporaryDirectory() as folder:
        made = []
        for trial in range(trials):
            own = (f"seed={trial % seeds + 1}", f"optimizer.lr={rate * (1 + 0.01 * trial)}")
            made.append(compose_trial([*common, *own], Path(folder) / str(trial), CONF))
        train_trials(made)
