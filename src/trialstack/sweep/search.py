"""A search: batches of trials that Optuna suggests, each trained as a sweep, until the study has
all its trials.
"""

import logging
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.errors import HydraException
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf

from trialstack.core import layout
from trialstack.core.errors import TrialsFailed, UserError
from trialstack.core.hydra_internals import JobReturn, outcome
from trialstack.core.objective import direction
from trialstack.run.folder import locked
from trialstack.run.status import Status
from trialstack.sweep.executor import Executor
from trialstack.sweep.search_direction import NAMES
from trialstack.sweep.search_options import Options
from trialstack.sweep.shared import Shared

if TYPE_CHECKING:
    from optuna.trial import Trial

    from trialstack.sweep.study import Suggestion

log = logging.getLogger(__name__)

OF_SEARCH = ("sweep", "objective", "halving", "on_error", "retry", "dry_run")
"""Keys that are no trial's."""


class InSearch:
    """A task whose jobs are batches of a search.

    Args:
        task: the task.

    Attributes:
        shared: by the batches.
    """

    def __init__(self, task: Callable[[DictConfig], Any]) -> None:
        self.task = task
        self.shared = Shared()

    def __call__(self, config: DictConfig) -> Any:
        return self.task(config)

    def train_jobs(
        self,
        configs: Sequence[DictConfig],
        master: DictConfig,
        context: Any,
        task: Any,
        executor: Executor,
    ) -> list[JobReturn]:
        """Train a batch."""
        returned: list[JobReturn] = self.task.train_jobs(  # type: ignore[attr-defined]
            configs, master, context, self.task, executor, self.shared
        )
        return returned


def search(
    options: Options,
    arguments: Sequence[str],
    config: DictConfig,
    launcher: Launcher,
    task: InSearch,
) -> None:
    """Search, or go on with a search, and report what was found.

    Args:
        options: of the search.
        arguments: overrides; they replace those of `options.params`.
        config: of the sweep.
        launcher: that trains jobs.
        task: what it trains them with.

    Raises:
        UserError: an option or the space is at fault, or Optuna is missing.
        TrialsFailed: trials failed.
    """
    try:
        import optuna  # noqa: F401
    except ImportError:
        raise UserError(
            "hydra/sweeper=optuna needs Optuna 5; pip install 'trialstack[search]' (in a clone: "
            "-e '.[search]')"
        ) from None
    from trialstack.sweep.search_space import Space

    space = Space.parse([*options.lines, *arguments], options.custom_search_space)
    _check(options, space, config)
    if config.dry_run:
        _plan(options, space, config, launcher, task)
        return
    folder = Path(str(config.hydra.sweep.dir))
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with locked(folder):
            _Search(options, space, config, launcher, task, folder).run()
    except (UserError, HydraException):
        if not (folder / layout.INDEX).exists():  # no trial can be made: nothing has begun
            (folder / layout.STUDY).unlink(missing_ok=True)
            (folder / f"{layout.STUDY}.lock").unlink(missing_ok=True)
        if is_new and not any(folder.iterdir()):
            folder.rmdir()
        raise


def _check(options: Options, space: Any, config: DictConfig) -> None:
    if OmegaConf.is_list(options.direction) or isinstance(options.direction, list):
        raise UserError(
            "hydra.sweeper.direction must be one direction, got a list: trials have one objective"
        )
    wanted = NAMES[direction(str(config.objective))]
    if options.direction not in (None, wanted):
        raise UserError(
            f"hydra.sweeper.direction must be {wanted} for objective={config.objective}, got "
            f"{options.direction}; leave it out"
        )
    if options.repeats > 1 and "seed" in space.distributions:
        raise UserError(
            f"hydra.sweeper.repeats={options.repeats} takes the seeds from seed={config.seed} on, "
            "got several; leave out seed, or give one"
        )
    if "seed" in space.distributions:
        raise UserError(
            "seed must be the same in all trials of a search, got several; use "
            "hydra.sweeper.repeats=2, which trains each suggestion with two"
        )
    for key in space.distributions:
        if key == "data.fold" or key.partition(".")[0] in OF_SEARCH:
            raise UserError(
                f"{key} must be the same in all trials of a search, got several; give one"
            )
    if options.batch == 1 and config.halving.name != "none":
        raise UserError(
            f"halving={config.halving.name} needs several trials in a batch, got 1; use "
            "hydra.sweeper.n_jobs=16, or halving=none"
        )


def _sampler_seed(options: Options, config: DictConfig) -> int:
    seed = options.sampler.get("seed")
    return int(config.seed if seed is None else seed)


def _plan(
    options: Options, space: Any, config: DictConfig, launcher: Launcher, task: InSearch
) -> None:
    """Say what would be trained: the next batch, and how many there are."""
    from trialstack.sweep.study import Study, read_study, study_in_memory
    from trialstack.sweep.told import trials_in

    folder, towards = Path(str(config.hydra.sweep.dir)), NAMES[direction(str(config.objective))]
    memory = study_in_memory(towards)
    opened = read_study(folder, options.storage, options.study_name or folder.name)
    if opened is not None:
        memory.add_trials([trial for trial in opened.get_trials() if trial.state.is_finished()])
    elif (folder / layout.STUDY).exists():
        memory.add_trials(trials_in(folder, space, str(config.objective)))
    study = Study(memory, space, options.sampler, _sampler_seed(options, config), config)
    study.check_space()
    told = study.told
    each = f", each with {options.repeats} seeds" if options.repeats > 1 else ""
    asked = study.batch(options.batch, options.n_trials)
    if not asked:
        print(f"the search has all of its {options.n_trials} trials{each}")
        return
    _begin(task, options, told, len(asked))
    launcher.launch(_jobs(asked, options, config), initial_job_idx=told * options.repeats)
    shared = task.shared
    print(
        f"{shared.number - 1} of {shared.of} batches are trained, this is the next one of a search "
        f"of {options.n_trials} trials{each}; about {shared.left * shared.seconds:.0f} s of "
        "training are left"
    )


def _begin(task: InSearch, options: Options, told: int, count: int) -> None:
    """Have the next batch know which one it is."""
    task.shared.begin(
        number=1 + told // options.batch,
        of=-(-options.n_trials // options.batch),
        left=(options.n_trials - told) / count,
    )


def _jobs(asked: Sequence["Suggestion"], options: Options, config: DictConfig) -> list[list[str]]:
    """Overrides of the jobs of some suggestions, seed by seed."""
    jobs = []
    for _, overrides in asked:
        if options.repeats == 1:
            jobs.append(overrides)
        others = [line for line in overrides if not line.startswith("seed=")]
        for seed in range(options.repeats if options.repeats > 1 else 0):
            jobs.append([*others, f"seed={config.seed + seed}"])
    return jobs


class _Search:
    def __init__(
        self,
        options: Options,
        space: Any,
        config: DictConfig,
        launcher: Launcher,
        task: InSearch,
        folder: Path,
    ) -> None:
        from trialstack.sweep.study import Study, cut_tail, new_study, read_study
        from trialstack.sweep.told import trials_in

        self.options = options
        self.config = config
        self.launcher = launcher
        self.task = task
        self.shared = task.shared
        self.folder = folder
        self.objective = str(config.objective)
        name, towards = options.study_name or folder.name, NAMES[direction(self.objective)]
        cut_tail(folder)
        opened = read_study(folder, options.storage, name)
        if opened is None:
            trials = (
                trials_in(folder, space, self.objective) if (folder / layout.STUDY).exists() else []
            )
            opened = new_study(folder, options.storage, name, towards, trials)
            if trials:
                log.warning(
                    "%s was damaged; %d trials are read from their folders again, the file is kept "
                    "as %s.damaged", layout.STUDY, len(trials), layout.STUDY,
                )  # fmt: skip
        self.study = Study(opened, space, options.sampler, _sampler_seed(options, config), config)
        self.study.check_space()

    def run(self) -> None:
        from trialstack.sweep.report import report_sweep

        failed = total = 0
        told = self.study.told
        waiting = len(self.study.trials) - told
        log.info(
            "search of %d trials in %s: %d are there%s",
            self.options.n_trials,
            os.path.relpath(self.folder),
            told,
            f", {waiting} go on" if waiting else "",
        )
        try:
            while asked := self.study.batch(self.options.batch, self.options.n_trials):
                returned = self._train(asked)
                lost = self._tell(asked, returned)
                failed, total = failed + lost, total + len(asked)
                if lost / len(asked) > self.options.max_failure_rate:
                    break
        finally:
            self.shared.close()
            if (self.folder / layout.INDEX).exists():
                report_sweep(self.folder)
        self._write_best()
        if failed:
            raise TrialsFailed(f"{failed} of {total} trials failed")

    def _train(self, asked: "Sequence[Suggestion]") -> list[list[JobReturn]]:
        """Train a batch; return what came out, by suggestion."""
        repeats, first = self.options.repeats, asked[0].trial.number
        _begin(self.task, self.options, first, len(asked))
        jobs = _jobs(asked, self.options, self.config)
        returned = list(self.launcher.launch(jobs, initial_job_idx=first * repeats))
        return [returned[start : start + repeats] for start in range(0, len(returned), repeats)]

    def _tell(self, asked: "Sequence[Suggestion]", returned: Sequence[Sequence[JobReturn]]) -> int:
        """Tell what came out, and return how many failed.

        The last one is told first: what a command that was killed has not told is known from what
        it has not asked for.
        """
        return sum(
            self._tell_one(trial, jobs) == Status.FAILED
            for (trial, _), jobs in reversed(list(zip(asked, returned, strict=True)))
        )

    def _tell_one(self, trial: "Trial", jobs: Sequence[JobReturn]) -> Status:
        from trialstack.sweep.told import Told

        folders = [folder for job in jobs if (folder := getattr(job, "folder", None)) is not None]
        told = Told.of(self.folder, folders, [_score(job) for job in jobs], self.objective)
        if not self.study.trials[trial.number].state.is_finished():
            told.tell(self.study.study, trial)
        return told.status

    def _write_best(self) -> None:
        from optuna.trial import TrialState

        done = [t for t in self.study.trials if t.state == TrialState.COMPLETE]
        if not done:
            return
        best = self.study.study.best_trial
        values = {"name": "optuna", "best_params": best.params, "best_value": best.value}
        OmegaConf.save(OmegaConf.create(values), self.folder / layout.OPTIMIZATION_RESULTS)


def _score(job: JobReturn) -> float:
    value = outcome(job)
    return math.nan if isinstance(value, Exception) else float(value)
