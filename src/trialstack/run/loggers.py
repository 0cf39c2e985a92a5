"""Loggers, ended with their run: some have one run a process, which the next one's metrics would go
into as well.
"""

from collections.abc import Sequence

from lightning.pytorch.loggers import Logger

_ENDS = ("finish", "end", "stop", "close")
"""How experiments are ended, by package: wandb's, Comet's, Neptune's, and others'."""


def end(loggers: Sequence[Logger], status: str) -> None:
    """End what these loggers have begun, which Lightning's `finalize` leaves open.

    Args:
        loggers: of one run.
        status: how that ended.
    """
    for logger in loggers:
        logger.finalize(status)
        experiment = getattr(logger, "experiment", None)
        ends = (getattr(experiment, name, None) for name in _ENDS)
        end_experiment = next(filter(callable, ends), None)
        if end_experiment is not None:
            end_experiment()
