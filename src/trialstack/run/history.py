"""What a run measured epoch by epoch: to the loggers, to metrics.csv, to the terminal, and into
checkpoints.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger

from trialstack.core import layout
from trialstack.core.objective import direction, rounded
from trialstack.run.metrics_csv import EpochRow, measured, metrics, write_rows
from trialstack.run.tracking import TrackingLogger

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
        self.rows: list[EpochRow] = []
        self.spent = 0.0

    def write(self, on_disk: bool = True) -> None:
        """Write metrics.csv; what is not on disk when the power fails is in a checkpoint."""
        write_rows(self.file, self.rows, on_disk)

    @staticmethod
    def log(loggers: Sequence[Logger], rows: Sequence[EpochRow]) -> None:
        """Give the numbers of epochs to loggers, against optimizer steps."""
        for logger in loggers:
            if isinstance(logger, TrackingLogger):
                logger.log_new(rows)
                continue
            for row in rows:
                logger.log_metrics(measured(row), step=int(row["step"]))

    def state_dict(self) -> dict[str, Any]:
        return {"rows": [dict(row) for row in self.rows], "spent": self.spent}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        self.rows, self.spent = state_dict["rows"], state_dict["spent"]


def line(rows: Sequence[EpochRow], epochs: int) -> str:
    """Return the rows of an epoch, one a trial, as the line that is printed at its end: the best of
    each metric.

    It fits `WIDTH` columns: where it would not, it has no learning rate or time.
    """
    first, width = rows[0], len(str(epochs))
    best = {
        name: rounded((min if direction(name) == "min" else max)(row[name] for row in rows))
        for name in metrics([first])
    }
    seconds, rate = f"{first['seconds']:4.1f} s", _rate(rows)
    of = f"best of {len(rows)}:" if len(rows) > 1 else ""
    parts = [f"epoch {first['epoch']:{width}}/{epochs}", seconds, of, *_scores(best), rate]
    for left_out in ((), (rate,), (rate, seconds)):
        text = "  ".join(part for part in parts if part and part not in left_out)
        if len(text) <= WIDTH:
            break
    return text


def _rate(rows: Sequence[EpochRow]) -> str:
    return f"lr {rows[0]['lr']:.2g}" if len(rows) == 1 and "lr" in rows[0] else ""


def _scores(best: Mapping[str, str]) -> list[str]:
    """Each metric with its value in training, and those in other parts: `loss 0.51 val 0.48`."""
    scores: dict[str, str] = {}
    for name, value in best.items():
        part, _, metric = name.rpartition("/")
        scores[metric] = scores.get(metric, metric) + f" {part.removeprefix('train')} {value}"
    return [" ".join(score.split()) for score in scores.values()]
