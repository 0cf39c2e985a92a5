"""A sweep: Hydra's jobs as trials, each in a folder, trained stack by stack, and what came out."""

import logging
import math
import os
import shlex
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from trialstack.core import layout
from trialstack.core.atomic_files import remove_parts, replaced
from trialstack.core.errors import (
    CannotWrite,
    Interrupted,
    TrialsFailed,
    UserError,
    cannot_write,
    reason,
)
from trialstack.core.hydra_internals import JobReturn, JobStatus, outcome
from trialstack.core.parse import check_folder, parse
from trialstack.core.schema import TrialConfig
from trialstack.run.folder import discard, locked, refuse_links
from trialstack.run.result import Result
from trialstack.run.status import Status
from trialstack.run.trial import Trial, check_in_sweep
from trialstack.sweep.hydra_job import Job
from trialstack.sweep.index import FILES, Indexed, SweepIndex, varying

log = logging.getLogger(__name__)


@dataclass
class Member:
    """A job as a trial of the sweep.

    Attributes:
        job: Hydra's.
        config: of the job; paths into its folder are not its own yet.
        before: how the trial ended in an earlier command; None for a new one.
        returned: once it has ended.
        same_as: the job before it that has the same config, and trains for both.
    """

    job: Job
    config: TrialConfig
    before: Status | None = None
    returned: JobReturn | None = None
    same_as: "Member | None" = None

    @property
    def kept(self) -> bool:
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
        return self.before == Status.INTERRUPTED and any(file.exists() for file in there)


def sweep(
    configs: Sequence[DictConfig],
    master: DictConfig,
    context: HydraContext,
    task_function: TaskFunction,
) -> list[JobReturn]:
    """Train the jobs of a sweep, those that differ in numbers only together; finished ones are kept
    as they are.

    Args:
        configs: of the jobs, with their `hydra` nodes.
        master: the config of the sweep.
        context: Hydra's.
        task_function: that would run one job.

    Raises:
        UserError: a config breaks a rule, and nothing is trained; or the disk is full, and the same
            command goes on.
        Interrupted: Ctrl-C, SIGTERM or SIGHUP; the same command goes on.
        TrialsFailed: a trial failed under `on_error=stop`.
    """
    members = []
    for config in configs:
        check_folder(config)
        job = Job(config, context, task_function)
        parsed = parse(job.values())
        check_in_sweep(parsed)
        members.append(Member(job, parsed))
    for key in ("sweep", "objective"):
        chosen = dict.fromkeys(str(getattr(member.config, key)) for member in members)
        if len(chosen) > 1:
            raise UserError(
                f"{key} must be the same in all trials, got {', '.join(chosen)}; sweep once for "
                "each"
            )
    folder = Path(str(master.hydra.sweep.dir))
    with _brief():
        wanted = Sweep(folder, members, master)
        if wanted.left:
            from trialstack.run.rehearsal import rehearse  # torch, from here on

            rehearse([member.config for member in wanted.left])
        if master.dry_run:
            print(wanted.plan_text())
            return [
                JobReturn(overrides=member.job.overrides, status=JobStatus.COMPLETED)
                for member in members
            ]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with locked(folder):
                return Sweep(folder, members, master).train()
        except OSError as error:
            raise UserError(
                f"{cannot_write(error, folder)}, or use hydra.sweep.dir=FOLDER"
            ) from error


class Sweep:
    """Trials in a folder.

    Args:
        folder: of the sweep.
        members: get a folder in it: the one that has their config already, or a new one; equal ones
            the same.
        master: the config of the sweep.
    """

    def __init__(self, folder: Path, members: Sequence[Member], master: DictConfig) -> None:
        self.folder = folder
        self.members = members
        self.master = master
        self.index = SweepIndex.read(folder)
        self.index.objective = members[0].config.objective
        before = set(self.index.trials)
        firsts: dict[str, Member] = {}
        trials = [
            Indexed.of(m.config.values, m.job.config.hydra.runtime.choices, m.job.overrides)
            for m in members
        ]
        for member, trial in zip(members, trials, strict=True):
            first = firsts.setdefault(trial.key, member)
            member.same_as = None if first is member else first
        own = [
            (member, trial)
            for member, trial in zip(members, trials, strict=True)
            if member.same_as is None
        ]
        wanted = [os.path.relpath(member.job.folder, folder) for member, _ in own]
        for (member, _), name in zip(
            own, self.index.place([trial for _, trial in own], wanted), strict=True
        ):
            member.job.folder = folder / name
            result = Result.read(member.job.folder)
            if name in before and member.job.folder.exists():
                member.before = result.status if result is not None else Status.INTERRUPTED
            if member.kept and result is not None:
                member.returned = member.job.returned(_objective(result))
        self.left = [member for member, _ in own if not member.kept]
        self.trials = [trial for member, trial in own if not member.kept]

    def plan_text(self) -> str:
        """Return what `train` would do."""
        from trialstack.sweep.dry_run import plan_table  # torch, from here on

        if not self.left:
            return self._announcement()
        keys = varying(self.trials)
        labels = [{key: trial.value(key) for key in keys} for trial in self.trials]
        plan = plan_table([member.config for member in self.left], labels)
        return f"{self._announcement()}\n\n{plan}"

    def train(self) -> list[JobReturn]:
        """Train what is left, stack by stack, and show and write what came out."""
        if not self.index.file.exists():
            self.index.claim()
        self.index.write()
        with replaced(self.folder / layout.MULTIRUN) as temporary:
            OmegaConf.save(self.master, temporary)
        remove_parts(self.folder, FILES)
        log.info(self._announcement())
        try:
            if self.left:
                import trialstack.run.train  # noqa: F401  # torch: interrupted meanwhile, there is nothing to report
            try:
                if self.left:
                    self._train_stacks()
                self._tidy()
            finally:
                self._report()
        except (KeyboardInterrupt, Interrupted):
            raise Interrupted(f"`{self._command()}` continues") from None
        except CannotWrite as error:
            raise CannotWrite(error.what, f"`{self._command()}`") from error
        for member in self.members:
            if member.same_as is not None and member.same_as.returned is not None:
                member.returned = member.job.returned(outcome(member.same_as.returned))
        return [member.returned for member in self.members if member.returned is not None]

    def _announcement(self) -> str:
        counts = Counter(self._fate(member) for member in self.members)
        parts = ", ".join(f"{count} {fate}" for fate, count in counts.items())
        return f"sweep of {_trials(len(self.members))} in {os.path.relpath(self.folder)}: {parts}"

    def _fate(self, member: Member) -> str:
        if member.same_as is not None:
            return "the same as another"
        if member.kept:
            return f"kept ({member.before})"
        if member.goes_on:
            return "going on from their last checkpoint"
        return "new" if member.before is None else f"trained anew ({member.before})"

    def _train_stacks(self) -> None:
        from trialstack.data.cache import Datasets  # torch, from here on
        from trialstack.engine.capacity import most_in_stack
        from trialstack.engine.memory import release_memory
        from trialstack.run.grouping import divided, plan
        from trialstack.sweep.progress import SweepBar

        planned = plan(
            [member.config for member in self.left], [member.job.apart for member in self.left]
        )
        stacks = []
        for stack in planned:
            limit = most_in_stack([self.left[position].config for position in stack.members])
            parts = [stack.members] if limit is None else divided(stack.members, limit)
            stacks += [stack._replace(members=part) for part in parts]
        for how, count in Counter(stack.one_by_one for stack in stacks if stack.one_by_one).items():
            log.info("%s %s", _trials(count), how)
        trial_epochs = sum(member.config.trainer.max_epochs for member in self.left)
        bar = SweepBar(self.folder.name, len(self.left), trial_epochs, self.index.objective)
        datasets, done, epochs = Datasets(), 0, 0
        try:
            with bar.below_messages():
                for number, stack in enumerate(stacks, 1):
                    together = [self.left[position] for position in stack.members]
                    began = time.perf_counter()
                    self._train_stack(together, bar, datasets)
                    release_memory()
                    done += len(together)
                    epochs += sum(member.config.trainer.max_epochs for member in together)
                    bar.move_to(done, epochs)
                    if not bar.shown:
                        seconds = time.perf_counter() - began
                        log.info(
                            "stack %d of %d: %s, %.1f s",
                            number,
                            len(stacks),
                            _trials(len(together)),
                            seconds,
                        )
                    if any(
                        member.failed and member.config.on_error == "stop" for member in together
                    ):
                        raise TrialsFailed(
                            f"stopped at a trial that failed; `{self._command()}` continues"
                        )
        finally:
            bar.close()

    def _tidy(self) -> None:
        """Remove what a process left that was killed when its trials had their results, but were
        not all closed.
        """
        from trialstack.run.stack_file import remove_if_done

        for member in self.members:
            if member.kept and os.path.lexists(member.job.folder / layout.STACK):
                remove_if_done(member.job.folder)

    def _train_stack(self, together: Sequence[Member], bar: Any, datasets: Any) -> None:
        from trialstack.run.train import train

        for member in together:
            if member.goes_on:
                refuse_links(member.job.folder)
            else:
                discard(member.job.folder)
            member.job.open()
        alone = len(together) == 1
        trials = [self._trial(member, alone) for member in together]
        first = together[0].job
        try:
            with first.logging() if alone else nullcontext(), first.active():
                results = train(trials, [bar], datasets)
        except (Interrupted, CannotWrite):
            raise
        except Exception as error:
            results = [self._failed(member, error) for member in together]
        for member, result in zip(together, results, strict=True):
            failed = TrialsFailed(f"{os.path.relpath(member.job.folder)} failed: {result.reason}")
            member.returned = member.job.close(
                failed if result.status == Status.FAILED else _objective(result)
            )

    def _trial(self, member: Member, alone: bool) -> Trial:
        logged = nullcontext if alone else member.job.logging
        folder = Path(os.path.abspath(member.job.folder))
        return Trial(
            parse(member.job.values()),
            folder,
            tuple(member.job.overrides),
            member.goes_on,
            logged=logged,
        )

    def _failed(self, member: Member, error: Exception) -> Result:
        """The result of a trial whose training raised."""
        with member.job.logging():
            log.error("failed: %s", error, exc_info=None if isinstance(error, UserError) else error)
        result = Result.read(member.job.folder) or Result()
        if not result.status.is_final:
            result = replace(result, status=Status.FAILED, reason=reason(error))
            result.write(member.job.folder)
        return result

    def _report(self) -> None:
        """Write the leaderboard, print it, and say what failed."""
        from trialstack.sweep.report import report_sweep

        report_sweep(self.folder)

    def _command(self) -> str:
        arguments = [*sys.argv[1:]]
        if not any(argument.startswith("sweep=") for argument in arguments):
            arguments.append(f"sweep={self.folder.name}")
        return shlex.join(["python", os.path.relpath(sys.argv[0]), *arguments])


def _trials(count: int) -> str:
    return f"{count} trial" if count == 1 else f"{count} trials"


def _objective(result: Result) -> float:
    return math.nan if result.objective is None else result.objective


@contextmanager
def _brief() -> Iterator[None]:
    """Have the terminal show the sweep, not what is said of single trials;
    `hydra.verbose=trialstack` shows all.
    """
    package = logging.getLogger("trialstack")
    level = package.level
    if not package.isEnabledFor(logging.DEBUG):
        package.setLevel(logging.WARNING)
    for name in (__name__, "trialstack.sweep.progress"):
        logging.getLogger(name).setLevel(logging.INFO)
    try:
        yield
    finally:
        package.setLevel(level)
