"""The training of a sweep: to its first rung, those that are kept there to the next one, and so on,
the stacks of each phase on an executor.
"""

import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from trialstack.core.errors import TrialsFailed, UserError, reason
from trialstack.core.parse import parse
from trialstack.run.folder import discard, refuse_links
from trialstack.run.grouping import plan
from trialstack.run.result import Result
from trialstack.run.stack_file import StackFile
from trialstack.run.status import Status
from trialstack.run.trial import Trial
from trialstack.sweep.executor import Executor
from trialstack.sweep.halving import Halving, Phase
from trialstack.sweep.member import Member, trials_text
from trialstack.sweep.progress import SweepBar
from trialstack.sweep.spread import spread
from trialstack.sweep.stack_task import StackTask

log = logging.getLogger(__name__)


class Phases:
    """Trains what is left of a sweep.

    Args:
        left: the trials that are not kept as they are.
        halving: of the sweep.
        executor: trains stacks.
        bar: shows how far they are.
        command: that would go on.
    """

    def __init__(
        self,
        left: Sequence[Member],
        halving: Halving,
        executor: Executor,
        bar: SweepBar,
        command: str,
    ) -> None:
        self.left = left
        self.halving = halving
        self.executor = executor
        self.bar = bar
        self.command = command
        self.before = bar.done

    def train(self) -> None:
        """Train all.

        Raises:
            TrialsFailed: a trial failed under `on_error=stop`.
        """
        phase = self.halving.phase()
        while phase is not None:
            rungs = len(self.halving.rungs)
            self.bar.rung = f", rung {phase.number} of {rungs}" if phase.number <= rungs else ""
            self._train(phase)
            phase = self.halving.phase()
            self.halving.mark_stopped()
            self.bar.done = self.before + self._ended()

    def _ended(self) -> int:
        """How many trials have ended, or were stopped."""
        stopped = {id(member) for row, *_ in self.halving.stopped for member in row}
        return sum(member.returned is not None or id(member) in stopped for member in self.left)

    def _train(self, phase: Phase) -> None:
        stacks = self._stacks(phase.waiting)
        if self.executor.workers > 1:
            for together in stacks:
                _separate(together)
        tasks = self._tasks(stacks, phase.until)
        ends = self.executor.train(tasks, self.bar)
        try:
            for count, (task, outcome) in enumerate(ends, 1):
                together = stacks[task.number]
                self._conclude(together, outcome, phase.until)
                self.bar.done = self.before + self._ended()
                self.bar.advance(task.trial_epochs)
                if not self.bar.shown and not isinstance(outcome, Exception):
                    log.info(
                        "stack %d of %d%s: %s, %.1f s",
                        count,
                        len(stacks),
                        self.bar.rung,
                        trials_text(len(together)),
                        max(result.seconds.get("total", 0.0) for result in outcome),
                    )
                if any(member.failed and member.config.on_error == "stop" for member in together):
                    raise TrialsFailed(
                        f"stopped at a trial that failed; `{self.command}` continues"
                    )
        except KeyboardInterrupt as interruption:  # in between: jobs may be left alone then
            ends.throw(interruption)
        finally:
            ends.close()

    def _stacks(self, waiting: Sequence[Member]) -> list[list[Member]]:
        """What trains together, in parts that keep all workers busy."""
        configs = [member.config for member in waiting]
        planned = plan(configs, [member.job.apart for member in waiting])
        for how, count in Counter(
            stack.one_by_one for stack in planned if stack.one_by_one
        ).items():
            log.info("%s %s", trials_text(count), how)
        parts = spread(planned, configs, self.executor.workers, self.executor.on_gpu)
        return [[waiting[position] for position in part] for part in parts]

    def _tasks(self, stacks: Sequence[Sequence[Member]], until: int) -> Iterator[StackTask]:
        """Stacks as tasks; their folders are made when they are asked for."""
        for number, together in enumerate(stacks):
            for member in together:
                if member.goes_on:
                    refuse_links(member.job.folder)
                    _mark_unfinished(member)
                else:
                    discard(member.job.folder)
                if not member.job.is_open:
                    member.job.open()
            alone = len(together) == 1
            yield StackTask(
                number,
                [_trial(member, until, alone) for member in together],
                together[0].job.environment,
                sum(min(until, member.epochs) - member.reached for member in together),
            )

    def _conclude(
        self, together: Sequence[Member], outcome: Sequence[Result] | Exception, until: int
    ) -> None:
        """Take note of how a stack has ended."""
        if isinstance(outcome, Exception):
            outcome = [_failed(member, outcome) for member in together]
        for member, result in zip(together, outcome, strict=True):
            member.before = result.status
            if result.status == Status.STOPPED:
                member.trained = until
            else:
                member.trained = member.epochs
                member.close(result)


def _separate(together: Sequence[Member]) -> None:
    """Give trials checkpoints of their own that went as far in one stack and go on in several."""
    folders = {os.path.realpath(member.job.folder) for member in together}
    for member in together:
        stack = StackFile.of(member.job.folder) if member.goes_on else None
        if stack is not None and not folders >= set(map(os.path.realpath, stack.members.values())):
            stack.split()
            stack.remove()


def _mark_unfinished(member: Member) -> None:
    """Have a trial that trains on from a rung not be called stopped, should it be killed."""
    result = Result.read(member.job.folder)
    if result is not None and result.status == Status.STOPPED:
        unfinished = replace(
            result, status=Status.INTERRUPTED, reason="trained on beyond a rung", rung=None
        )
        unfinished.write(member.job.folder)


def _trial(member: Member, until: int, alone: bool) -> Trial:
    return Trial(
        parse(member.job.values()),
        Path(os.path.abspath(member.job.folder)),
        tuple(member.job.overrides),
        member.goes_on,
        until if until < member.epochs else None,
        logged=nullcontext if alone else member.job.environment.logging,
        pictured=False,
    )


def _failed(member: Member, error: Exception) -> Result:
    """The result of a trial whose training raised."""
    with member.job.environment.logging():
        log.error("failed: %s", error, exc_info=None if isinstance(error, UserError) else error)
    result = Result.of(member.job.folder)
    if not result.status.is_final:
        result = replace(result, status=Status.FAILED, reason=reason(error))
        result.write(member.job.folder)
    return result
