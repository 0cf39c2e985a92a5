"""Loggers of tracking services, which keep runs themselves: a trial has one there, in which it goes
on.
"""

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from lightning.pytorch.loggers import Logger

from trialstack.core.atomic_files import replaced
from trialstack.core.untrusted import Damaged, json_fields, warn
from trialstack.run.metrics_csv import EpochRow, measured
from trialstack.run.status import Status

_MOST = 10_000
"""Bytes of such a file; it has some 50."""


@dataclass
class Tracked:
    """What a service has of a trial, as a file of the run folder says.

    Attributes:
        file: that file.
        run: what the service calls the trial's run; None if there is none.
        step: optimizer steps up to which it has the trial's epochs.
    """

    file: Path
    run: str | None = None
    step: int = 0

    @classmethod
    def read(cls, file: Path) -> "Tracked":
        """Return what `file` says: nothing, if it is not there or damaged."""
        try:
            return cls(file, **json_fields(file, {"run": str, "step": int}, _MOST))
        except FileNotFoundError:
            pass
        except Damaged as problem:
            warn(file, problem, "the trial begins a new run there")
        return cls(file)

    def begin(self, run: str) -> None:
        """Have a new run, without any epochs."""
        self.run, self.step = run, 0
        self.write()

    def write(self) -> None:
        """Have the file say so."""
        with replaced(self.file, on_disk=False) as temporary:
            temporary.write_text(json.dumps({"run": self.run, "step": self.step}) + "\n")


class TrackingLogger(Logger):
    """A logger of such a service.

    Attributes:
        tracked: what that has of the trial.
    """

    tracked: Tracked

    at_once: ClassVar[bool] = True
    """Whether what was logged outlives a killed process, so that it need not be logged again."""

    @classmethod
    def rehearse(cls, values: Mapping[str, Any]) -> None:
        """Check what the service needs, before anything is trained.

        Args:
            values: of the logger's config.

        Raises:
            UserError: it cannot be used like this.
        """

    def log_new(self, rows: Sequence[EpochRow]) -> None:
        """Give the service epochs, other than those that it has from an earlier process."""
        new = [row for row in rows if row["step"] > self.tracked.step]
        if new:
            self.log_epochs(new)
            self.tracked.step = int(new[-1]["step"])
            if self.at_once:
                self.tracked.write()

    def log_epochs(self, rows: Sequence[EpochRow]) -> None:
        """Give the service epochs."""
        for row in rows:
            self.log_metrics(measured(row), step=int(row["step"]))

    @abstractmethod
    def end(self, status: Status, objective: float | None) -> None:
        """End the run, with how the trial has come out."""
