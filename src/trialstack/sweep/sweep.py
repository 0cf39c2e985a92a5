"""A sweep: Hydra's jobs as trials, each in a folder, trained stack by stack, and what came out."""

import json
import logging
import os
import shlex
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from trialstack.core import layout
from trialstack.core.atomic_files import remove_parts, replaced
from trialstack.core.called import called
from trialstack.core.errors import (
    CannotWrite,
    Interrupted,
    UserError,
    cannot_write,
)
from trialstack.core.hydra_internals import JobReturn, JobStatus, outcome
from trialstack.core.key import Group
from trialstack.core.parse import check_folder, parse
from trialstack.core.schema import TrialConfig
from trialstack.run.folder import locked
from trialstack.run.result import Result
from trialstack.run.status import Status
from trialstack.run.trial import check_in_sweep
from trialstack.sweep.executor import Executor
from trialstack.sweep.halving import Halving
from trialstack.sweep.hydra_job import Job
from trialstack.sweep.index import FILES, Indexed, SweepIndex, varying
from trialstack.sweep.member import Member, trials_text
from trialstack.sweep.shared import Shared
from trialstack.sweep.workers import wait_for_workers

log = logging.getLogger(__name__)


def sweep(
    configs: Sequence[DictConfig],
    master: DictConfig,
    context: HydraContext,
    task_function: TaskFunction,
    executor: Executor,
    shared: Shared | None = None,
) -> list[JobReturn]:
    """Train the jobs of a sweep, those that differ in numbers only together; finished ones are kept
    as they are.

    Args:
        configs: of the jobs, with their `hydra` nodes.
        master: the config of the sweep.
        context: Hydra's.
        task_function: that would run one job.
        executor: trains stacks.
        shared: with the other batches of a search, which reports at its end.

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
    for key in ("sweep", "objective", "halving"):
        chosen = dict.fromkeys(_shown(member.config, key) for member in members)
        if len(chosen) > 1:
            raise UserError(
                f"{key} must be the same in all trials, got {', '.join(chosen)}; sweep once for "
                "each"
            )
    folder = Path(str(master.hydra.sweep.dir))
    with _brief():
        wanted = Sweep(folder, members, master, executor, shared)
        if wanted.left:
            from trialstack.run.rehearsal import rehearse  # torch, from here on
            from trialstack.run.source import check_source

            rehearse([member.config for member in wanted.left], executor.on_this_machine)
            new = {m.config.source: m.config for m in wanted.left if not m.goes_on}
            for parsed in new.values():
                check_source(parsed)
        if master.dry_run:
            print(wanted.plan_text())
            return [
                JobReturn(overrides=member.job.overrides, status=JobStatus.COMPLETED)
                for member in members
            ]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with locked(folder):
                if wanted.left:
                    executor.begin(folder)
                    wait_for_workers(folder)
                return Sweep(folder, members, master, executor, shared).train()
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
        executor: trains stacks.
        shared: with the other batches of a search.
    """

    def __init__(
        self,
        folder: Path,
        members: Sequence[Member],
        master: DictConfig,
        executor: Executor,
        shared: Shared | None = None,
    ) -> None:
        self.folder = folder
        self.executor = executor
        self.shared = shared
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
                if member.kept and not (member.job.folder / layout.CONFIG).exists():
                    member.before = None  # the folder was removed while it trained
            if member.goes_on and result is not None:
                member.trained = min(result.epochs, member.epochs - 1)
            if member.kept and result is not None:
                member.keep(result)
        for member in members:
            if member.same_as is not None:
                member.job.folder = member.same_as.job.folder
        self.own = [member for member, _ in own]
        self.left = [member for member, _ in own if not member.kept]
        self.trials = [trial for member, trial in own if not member.kept]
        rows: dict[str, list[Member]] = {}
        for member, trial in own:
            rows.setdefault(trial.row, []).append(member)
        self.halving = Halving(members[0].config.halving, list(rows.values()), self.index.objective)
        self.phase = self.halving.phase()

    def plan_text(self) -> str:
        """Return what `train` would do."""
        from trialstack.sweep.dry_run import plan_table  # torch, from here on

        if self.phase is None:
            return self._announcement()
        keys = varying(self.trials)
        labels = [{key: trial.value(key) for key in keys} for trial in self.trials]
        planned, all_epochs = self._planned(), sum(member.epochs for member in self.left)
        plan, seconds = plan_table(
            [member.config for member in self.left],
            labels,
            sum(planned) / all_epochs,
            self.executor.workers,
            self.executor.on_gpu,
        )
        if self.shared is not None:
            self.shared.seconds = seconds
        return "\n\n".join([self._announcement(), plan, *self._halving_text()])

    def _planned(self) -> list[int]:
        """Epochs of all trials, by phase."""
        return [epochs for _, _, epochs in self.halving.planned(self.phase)]

    def _halving_text(self) -> list[str]:
        if not self.halving.rungs:
            return []
        parts = self.halving.planned(self.phase)
        counts = ", ".join(f"{trials_text(trials)} to epoch {until}" for until, trials, _ in parts)
        full = sum(member.epochs for member in self.own)
        epochs = sum(epochs for *_, epochs in parts)
        return [f"halving: {counts}: {epochs:,} epochs of trials in place of {full:,}"]

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
            if self.phase is not None:
                import trialstack.run.train  # noqa: F401  # torch: interrupted meanwhile, there is nothing to report
            try:
                if self.phase is not None:
                    self._train_phases()
                self.halving.mark_stopped()
                self._tidy()
            finally:
                if self.shared is None:
                    self._report()
        except (KeyboardInterrupt, Interrupted):
            raise Interrupted(f"`{self._command()}` continues") from None
        except CannotWrite as error:
            raise CannotWrite(error.what, f"`{self._command()}`") from error
        for member in self.own:
            if member.returned is None:
                member.close(Result.of(member.job.folder))
        for member in self.members:
            if member.same_as is not None and member.same_as.returned is not None:
                member.returned = member.job.returned(outcome(member.same_as.returned))
        return [member.returned for member in self.members if member.returned is not None]

    def _announcement(self) -> str:
        counts = Counter(self._fate(member) for member in self.members)
        parts = ", ".join(f"{count} {fate}" for fate, count in counts.items())
        what = "sweep of" if self.shared is None else self.shared.batch
        return f"{what} {trials_text(len(self.members))} in {os.path.relpath(self.folder)}: {parts}"

    def _fate(self, member: Member) -> str:
        if member.same_as is not None:
            return "the same as another"
        if member.kept:
            return f"kept ({member.before})"
        waiting = [] if self.phase is None else self.phase.waiting
        if not any(member is other for other in waiting):
            return str(member.before)
        if member.goes_on:
            return "going on from their last checkpoint"
        return "new" if member.before is None else f"trained anew ({member.before})"

    def _train_phases(self) -> None:
        from trialstack.sweep.phases import Phases  # torch, from here on
        from trialstack.sweep.progress import SweepBar

        shared = self.shared or Shared()
        if shared.bar is None:
            trials, epochs = len(self.left), sum(self._planned())
            shared.bar = SweepBar(
                self.folder.name,
                round(shared.left * trials),
                round(shared.left * epochs),
                self.index.objective,
            )
        try:
            with shared.bar.below_messages():
                Phases(self.left, self.halving, self.executor, shared.bar, self._command()).train()
        finally:
            if self.shared is None:
                shared.close()

    def _tidy(self) -> None:
        """Remove what a process left that was killed when its trials had their results, but were
        not all closed.
        """
        from trialstack.run.stack_file import remove_if_done

        for member in self.members:
            if member.kept and os.path.lexists(member.job.folder / layout.STACK):
                remove_if_done(member.job.folder)

    def _report(self) -> None:
        """Write the leaderboard, print it, and say what failed."""
        from trialstack.sweep.report import report_sweep  # matplotlib

        report_sweep(self.folder)

    def _command(self) -> str:
        arguments = [*sys.argv[1:]]
        if not any(argument.startswith("sweep=") for argument in arguments):
            arguments.append(f"sweep={self.folder.name}")
        return f"{called('train', os.path.relpath(sys.argv[0]))} {shlex.join(arguments)}"


def _shown(config: TrialConfig, key: str) -> str:
    value = getattr(config, key)
    return json.dumps(value.values) if isinstance(value, Group) else str(value)


@contextmanager
def _brief() -> Iterator[None]:
    """Have the terminal show the sweep, not what is said of single trials;
    `hydra.verbose=trialstack` shows all.
    """
    package, own = logging.getLogger("trialstack"), logging.getLogger(__package__)
    level, own_level = package.level, own.level
    own.setLevel(package.getEffectiveLevel())
    if not package.isEnabledFor(logging.DEBUG):
        package.setLevel(logging.WARNING)
    try:
        yield
    finally:
        package.setLevel(level)
        own.setLevel(own_level)
