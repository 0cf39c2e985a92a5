"""What a run measured epoch by epoch: to the loggers, to metrics.csv, to the terminal, and into
checkpoints.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loggers import Logger

from trialstack.core import layout
from trialstack.core.objective import direction, rounded
from trialstack.engine.protocol import Measured
from trialstack.run.metrics_csv import COLUMNS, METRICS, Row, write_rows
from trialstack.run.timing import Account

log = logging.getLogger(__name__)

WIDTH = 80


class History:
    """A trial's rows, one an epoch: `epoch` (from 1), `step` (optimizer steps), losses, accuracies,
    `lr`, `seconds`.

    Attributes:
        spent: the trial's share of the seconds of all epochs, of which those of a stack have many
            trials.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / layout.METRICS
        self.rows: list[Row] = []
        self.spent = 0.0

    def write(self) -> None:
        write_rows(self.file, self.rows)

    @staticmethod
    def log(loggers: Sequence[Logger], row: Row) -> None:
        """Give an epoch's numbers to loggers, against optimizer steps."""
        for logger in loggers:
            logger.log_metrics(
                {name: row[name] for name in COLUMNS if name in row}, step=int(row["step"])
            )

    def state_dict(self) -> dict[str, Any]:
        return {"rows": [dict(row) for row in self.rows], "spent": self.spent}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        self.rows, self.spent = state_dict["rows"], state_dict.get("spent", 0.0)


class Recorded(Protocol):
    """What a Recorder needs of a run."""

    history: History
    loggers: list[Logger]


class Recorder(Checkpoint):
    """Adds a row an epoch to the history of every trial that has neither diverged nor ended.

    It is a Checkpoint because Lightning calls those after the module's own `on_train_epoch_end`,
    where the metrics are logged. A single trial's rows go into its checkpoints, so that a resumed
    run's metrics.csv has every epoch once.

    Args:
        runs: of each trial, when the training begins.
        account: of the time that this takes.
    """

    def __init__(self, runs: Sequence[Recorded], account: Account) -> None:
        self.runs = runs
        self.account = account
        self._began = 0.0
        self._validated = False

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._began = time.perf_counter()
        self._validated = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._validated = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, Measured)
        seconds = round(time.perf_counter() - self._began, 4)
        names = [name for name in COLUMNS if self._validated or not name.startswith("val/")]
        with self.account.measure("logging"):
            for index, run in enumerate(self.runs):
                history = run.history
                if index not in pl_module.diverged and index not in pl_module.ended:
                    metrics = {name: pl_module.measured[index][name] for name in names}
                    counts = {"epoch": trainer.current_epoch + 1, "step": trainer.global_step}
                    history.rows.append({**counts, **metrics, "seconds": seconds})
                    history.spent += seconds / len(self.runs)
                    history.log(run.loggers, history.rows[-1])
                    if trainer.is_global_zero:
                        history.write()
            last = [run.history.rows[-1] for run in self.runs if run.history.rows]
            of_epoch = [row for row in last if row["epoch"] == trainer.current_epoch + 1]
            if trainer.is_global_zero and of_epoch:
                log.info(line(of_epoch, trainer.max_epochs or 0))

    @property
    def state_key(self) -> str:
        return "History"

    def state_dict(self) -> dict[str, Any]:
        return self.runs[0].history.state_dict() if len(self.runs) == 1 else {}


def line(rows: Sequence[Row], epochs: int) -> str:
    """Return the rows of an epoch, one a trial, as the line that is printed at its end: the best of
    each metric.

    It fits `WIDTH` columns: where it would not, it has no learning rate or time.
    """
    first, width = rows[0], len(str(epochs))
    best = {
        name: rounded((min if direction(name) == "min" else max)(row[name] for row in rows))
        for name in METRICS
        if name in first
    }
    seconds, rate = f"{first['seconds']:4.1f} s", f"lr {first['lr']:.2g}" if len(rows) == 1 else ""
    of = f"best of {len(rows)}:" if len(rows) > 1 else ""
    scores = []
    for metric in ("loss", "acc"):
        there = (name for name in (f"train/{metric}", f"val/{metric}") if name in best)
        scores.append(f"{metric} {' val '.join(best[name] for name in there)}")
    parts = [f"epoch {first['epoch']:{width}}/{epochs}", seconds, of, *scores, rate]
    for left_out in ((), (rate,), (rate, seconds)):
        text = "  ".join(part for part in parts if part and part not in left_out)
        if len(text) <= WIDTH:
            break
    return text
