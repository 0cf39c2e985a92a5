"""Loggers, from an earlier process's files to the end of their run: some have one run a process,
which the next one's metrics would go into as well.
"""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger

from trialstack.core import layout
from trialstack.run.status import Status
from trialstack.run.tracking import TrackingLogger

_ENDS = ("finish", "end", "stop", "close")
"""How experiments are ended, by package: wandb's, Comet's, Neptune's, and others'."""


def begin_anew(loggers: Sequence[Logger], folder: Path) -> None:
    """Remove the files that loggers have in a run's folder; elsewhere they may be others'."""
    for file in chain.from_iterable(map(_files, loggers)):
        if file.is_relative_to(folder.resolve()):
            file.unlink()


def _files(logger: Logger) -> list[Path]:
    """What a logger that writes into its `log_dir` has there."""
    if isinstance(logger, TensorBoardLogger):
        return list(Path(logger.log_dir).resolve().glob(layout.EVENTS))
    if isinstance(logger, CSVLogger):
        names = ("metrics.csv", "hparams.yaml")
        there = Path(logger.log_dir).resolve()
        return [there / name for name in names if (there / name).exists()]
    return []


def end(loggers: Sequence[Logger], status: Status, objective: float | None) -> None:
    """End what these loggers have begun, which Lightning's `finalize` leaves open.

    Args:
        loggers: of one run.
        status: how that ended.
        objective: of its best epoch; None if it has none.
    """
    for logger in loggers:
        if isinstance(logger, TrackingLogger):
            logger.end(status, objective)
            continue
        logger.finalize("finished" if status.is_fine else "failed")
        experiment = getattr(logger, "experiment", None)
        ends = (getattr(experiment, name, None) for name in _ENDS)
        end_experiment = next(filter(callable, ends), None)
        if end_experiment is not None:
            end_experiment()
