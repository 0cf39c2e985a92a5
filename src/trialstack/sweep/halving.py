"""Successive halving of a sweep: which of its rows train on beyond a rung.

A row is trials that differ in their seed alone, and stays or goes as a whole. What happens at a
rung follows from what lies in the trials' folders: whoever asks again gets the same answer.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import NamedTuple

from trialstack.core.halving import HalvingConfig
from trialstack.core.objective import direction
from trialstack.run.result import Result
from trialstack.run.status import Status
from trialstack.sweep.member import Member

Row = Sequence[Member]


class Phase(NamedTuple):
    """What is trained until the next rung, or until the end.

    Attributes:
        number: of the rung, from 1; one more than there are at the end.
        until: the last epoch.
        alive: rows that are still in the contest.
        waiting: trials that have not come as far.
    """

    number: int
    until: int
    alive: Sequence[Row]
    waiting: Sequence[Member]


class Stopped(NamedTuple):
    """A row that is behind.

    Attributes:
        row: its trials.
        rung: number of the rung.
        epoch: of the rung.
        reason: with the row's rank.
    """

    row: Row
    rung: int
    epoch: int
    reason: str


class Halving:
    """The contest of a sweep's rows.

    Args:
        config: how they are halved.
        rows: of the sweep.
        objective: what they are compared by.

    Attributes:
        rungs: epochs after which rows are stopped.
        stopped: rows that are, as of the last call of `phase`.
    """

    def __init__(self, config: HalvingConfig, rows: Sequence[Row], objective: str) -> None:
        self.factor = config.factor
        self.rows = rows
        self.objective = objective
        self.last = max(member.epochs for row in rows for member in row)
        self.rungs = config.rungs_before(self.last)
        self.stopped: list[Stopped] = []

    def phase(self) -> Phase | None:
        """Return what is to be trained next; None if that is nothing."""
        alive, self.stopped = self.rows, []
        for number, until in self._goals():
            if len(alive) == 1:  # nothing to be compared with
                number, until = len(self.rungs) + 1, self.last
            waiting = [
                member
                for row in alive
                for member in row
                if member.reached < min(until, member.epochs)
            ]
            if waiting or until == self.last:
                return Phase(number, until, alive, waiting) if waiting else None
            alive = self._survivors(number, until, alive)
        return None

    def mark_stopped(self) -> None:
        """Write into the results of the trials that are stopped how far behind they were."""
        for row, rung, epoch, text in self.stopped:
            for member in row:
                result = Result.read(member.job.folder)
                if (
                    result is not None
                    and result.status == Status.STOPPED
                    and (result.rung is None or result.epochs == epoch)
                    and result.reason != text
                ):
                    replace(result, reason=text, rung=rung).write(member.job.folder)

    def _goals(self, first: int = 1) -> list[tuple[int, int]]:
        """Epochs to train to, from the first rung on or a later one, with their numbers."""
        return list(enumerate([*self.rungs, self.last], 1))[first - 1 :]

    def _survivors(self, number: int, rung: int, alive: Sequence[Row]) -> list[Row]:
        """Rows that train on; one that ends at the rung or before is not in the contest."""
        contest = [row for row in alive if row[0].epochs > rung]
        ranking = sorted(contest, key=lambda row: self._rank(row, rung))
        kept = self.kept(len(contest))
        for place, row in enumerate(ranking[kept:], kept + 1):
            reason = f"rung {number} (epoch {rung}): {_ordinal(place)} of {len(contest)}"
            self.stopped.append(Stopped(row, number, rung, reason))
        return [row for row in contest if any(row is best for best in ranking[:kept])]

    def _rank(self, row: Row, rung: int) -> float:
        """The mean over its trials, smaller for a better one; what ended badly is last."""
        score = fmean(member.score_at(rung, self.objective) for member in row)
        if math.isnan(score):
            return math.inf
        return score if direction(self.objective) == "min" else -score

    def kept(self, rows: int) -> int:
        """Return how many of so many rows train on."""
        return max(1, rows // self.factor)

    def planned(self, phase: Phase | None) -> list[tuple[int, int, int]]:
        """Return what is left to train from a phase on: the epoch it is trained to, trials, and
        epochs of them all. Which rows will be the best is not known: it is as if the first were.
        """
        if phase is None:
            return []
        parts, alive, before = [], list(phase.alive), 0
        for _, until in self._goals(phase.number):
            if len(alive) == 1:
                until = self.last
            members = [member for row in alive for member in row]
            left = [
                max(0, min(until, member.epochs) - max(before, member.reached))
                for member in members
            ]
            if any(left):
                parts.append((until, sum(epochs > 0 for epochs in left), sum(left)))
            alive = [row for row in alive if row[0].epochs > until]
            alive = alive[: self.kept(len(alive))]
            before = until
        return parts


def _ordinal(number: int) -> str:
    teen = number % 100 in (11, 12, 13)
    return f"{number}{'th' if teen else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"
