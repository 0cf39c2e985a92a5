"""A job of a sweep as a trial, and how far it has come."""

import math
import os
from dataclasses import dataclass, field

from trialstack.core import layout
from trialstack.core.errors import TrialsFailed
from trialstack.core.hydra_internals import JobReturn, JobStatus
from trialstack.core.objective import improves
from trialstack.core.schema import TrialConfig
from trialstack.run.metrics_csv import read_rows
from trialstack.run.result import Result
from trialstack.run.status import Status
from trialstack.sweep.hydra_job import Job

_BADLY = (Status.DIVERGED, Status.FAILED)


@dataclass
class Member:
    """A job as a trial of the sweep.

    Attributes:
        job: Hydra's.
        config: of the job; paths into its folder are not its own yet.
        before: how the trial ended so far; None for a new one.
        returned: once it has ended.
        same_as: the job before it that has the same config, and trains for both.
        trained: the epoch that it has come to, of one that goes on; all if this command has brought
            it to its end, whichever.
    """

    job: Job
    config: TrialConfig
    before: Status | None = None
    returned: JobReturn | None = None
    same_as: "Member | None" = None
    trained: int = 0
    _scores: dict[int, float] = field(default_factory=dict)

    @property
    def kept(self) -> bool:
        """Whether it has its result, from an earlier command."""
        if self.before is None or not self.before.is_final:
            return False
        return self.before != Status.DIVERGED or self.config.retry != Status.DIVERGED

    @property
    def failed(self) -> bool:
        return self.returned is not None and self.returned.status == JobStatus.FAILED

    @property
    def goes_on(self) -> bool:
        """Whether it was stopped after an epoch."""
        there = (self.job.folder / file for file in (layout.LAST, layout.STACK))
        stopped = self.before in (Status.INTERRUPTED, Status.STOPPED)
        return stopped and any(file.exists() for file in there)

    @property
    def epochs(self) -> int:
        """That it is to be trained in all."""
        return self.config.trainer.max_epochs

    @property
    def reached(self) -> int:
        """The epoch up to which nothing of it is to be trained any more."""
        return self.epochs if self.kept else self.trained

    def keep(self, result: Result) -> None:
        """Give Hydra what an earlier command has found."""
        self.returned = self.job.returned(_score(result))

    def close(self, result: Result) -> None:
        """Give Hydra what has become of the job."""
        failed = TrialsFailed(f"{os.path.relpath(self.job.folder)} failed: {result.reason}")
        outcome = failed if result.status == Status.FAILED else _score(result)
        close = self.job.close if self.job.is_open else self.job.returned
        self.returned = close(outcome)

    def score_at(self, epoch: int, objective: str) -> float:
        """Return the objective of its best epoch up to `epoch`; NaN if it ended badly before."""
        if epoch not in self._scores:
            self._scores[epoch] = self._score_at(epoch, objective)
        return self._scores[epoch]

    def _score_at(self, epoch: int, objective: str) -> float:
        rows = read_rows(self.job.folder / layout.METRICS)
        best: float | None = None
        for row in rows:
            score = row.get(objective, math.nan)
            if row["epoch"] <= epoch and improves(score, best, objective):
                best = score
        ended_before = not rows or rows[-1]["epoch"] < epoch
        return math.nan if best is None or (self.before in _BADLY and ended_before) else best


def trials_text(count: int) -> str:
    return f"{count} trial" if count == 1 else f"{count} trials"


def _score(result: Result) -> float:
    return math.nan if result.objective is None else result.objective
