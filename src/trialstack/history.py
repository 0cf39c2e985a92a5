"""What a run measured epoch by epoch: to the loggers, to metrics.csv, to the terminal, and into checkpoints."""

import csv
import logging
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from trialstack.atomic import replaced
from trialstack.classifier import Classifier

log = logging.getLogger(__name__)

METRICS = ("train/loss", "train/acc", "val/loss", "val/acc")
COLUMNS = (*METRICS, "lr")
Row = dict[str, float]


class History(Checkpoint):
    """A row an epoch: `epoch` (from 1), `step` (optimizer steps), losses, accuracies, `lr`, `seconds`.

    It is a Checkpoint because Lightning calls those after the module's own `on_train_epoch_end`, where the metrics
    are logged. Rows go into checkpoints, so that a resumed run's metrics.csv has every epoch once.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / "metrics.csv"
        self.rows: list[Row] = []
        self._began = 0.0
        self._validated = False

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._began = time.perf_counter()
        self._validated = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._validated = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, Classifier)
        names = [name for name in COLUMNS if self._validated or not name.startswith("val/")]
        metrics = {name: pl_module.measured[name] for name in names}
        row: Row = {"epoch": trainer.current_epoch + 1, "step": trainer.global_step, **metrics}
        row["seconds"] = round(time.perf_counter() - self._began, 4)
        self.rows.append(row)
        for logger in trainer.loggers:
            logger.log_metrics(metrics, step=trainer.global_step)
        if trainer.is_global_zero:
            log.info(line(row, trainer.max_epochs or 0))
            self.write()

    def write(self) -> None:
        with replaced(self.file) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["epoch", "step", *COLUMNS, "seconds"])
            writer.writeheader()
            writer.writerows(self.rows)

    def state_dict(self) -> dict[str, Any]:
        return {"rows": [dict(row) for row in self.rows]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = state_dict["rows"]


def line(row: Row, epochs: int) -> str:
    """Return a row as the line that a run prints at the end of an epoch."""
    numbers = [f"{name} {row[name]:.4f}" for name in METRICS if name in row]
    width = len(str(epochs))
    return "  ".join(
        [f"epoch {row['epoch']:{width}}/{epochs}", f"{row['seconds']:5.1f} s", *numbers, f"lr {row['lr']:.3g}"]
    )
