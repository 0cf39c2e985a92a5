"""A search: batches of trials that Optuna suggests, each trained as a sweep, until the study has
all its trials.
"""

import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

from hydra.errors import HydraException
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf

from trialstack.core import layout
from trialstack.core.errors import TrialsFailed, UserError
from trialstack.core.hydra_internals import JobReturn, outcome
from trialstack.core.objective import direction
from trialstack.core.rule import Rule, number, or_null, whole
from trialstack.run.folder import locked
from trialstack.run.metrics_csv import read_rows
from trialstack.run.result import Result
from trialstack.run.status import Status
from trialstack.sweep.index import Indexed, SweepIndex
from trialstack.sweep.search_direction import NAMES
from trialstack.sweep.shared import Shared

if TYPE_CHECKING:
    from optuna.trial import Trial

    from trialstack.sweep.study import Suggestion

log = logging.getLogger(__name__)

LARGEST_BATCH = 64
"""Trials of a batch where `n_jobs` is null, at most: as many as a stack holds well."""

SAMPLERS = ("tpe", "random", "sobol", "cmaes", "gp")

_RULES: dict[str, Rule] = {
    "n_trials": whole(1, "64"),
    "n_jobs": or_null(whole(1, "16")),
    "repeats": whole(1, "3"),
    "max_failure_rate": number("from 0 to 1", lambda x: 0 <= x <= 1, "0.5"),
    "sampler": Rule(
        "the name of a sampler", lambda x: isinstance(x, Mapping) and "_target_" in x, "tpe"
    ),
}


@dataclass(frozen=True, kw_only=True)
class Options:
    """`hydra.sweeper`, see `conf/hydra/sweeper/optuna.yaml`."""

    sampler: Mapping[str, Any]
    n_trials: int
    n_jobs: int | None
    repeats: int
    direction: Any
    max_failure_rate: float
    study_name: str | None
    storage: str | None
    params: Mapping[str, Any] | None
    custom_search_space: str | None

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> "Options":
        """Return checked options.

        Raises:
            UserError: one breaks its rule, or is unknown.
        """
        known = {item.name for item in fields(cls)}
        plain = {key: _plain(value) for key, value in values.items()}
        for key, rule in _RULES.items():
            if key == "sampler" and isinstance(plain.get(key), str):
                raise UserError(
                    f"hydra.sweeper.sampler is a group, got {plain[key]!r}; try "
                    f"hydra/sweeper/sampler={'|'.join(SAMPLERS)}"
                )
            rule.check(f"hydra.sweeper.{key}", plain.get(key))
        unknown = plain.keys() - known
        if unknown:
            raise UserError(
                f"nothing reads hydra.sweeper.{min(unknown)}; there are {', '.join(sorted(known))}"
            )
        return cls(**plain)

    @property
    def batch(self) -> int:
        """Suggestions that are trained together."""
        return self.n_jobs or max(1, min(LARGEST_BATCH, self.n_trials // 4))

    @property
    def lines(self) -> list[str]:
        """`params` as overrides."""
        return [f"{key}={value}" for key, value in (self.params or {}).items()]


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
        self, configs: Sequence[DictConfig], master: DictConfig, context: Any, task: Any
    ) -> list[JobReturn]:
        """Train a batch."""
        returned: list[JobReturn] = self.task.train_jobs(  # type: ignore[attr-defined]
            configs, master, context, self.task, self.shared
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
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        try:
            _Search(options, space, config, launcher, task, folder).run()
        except (UserError, HydraException):
            if not (folder / layout.INDEX).exists():  # no trial can be made: nothing has begun
                (folder / layout.STUDY).unlink(missing_ok=True)
                (folder / f"{layout.STUDY}.lock").unlink(missing_ok=True)
            raise


def _check(options: Options, space: Any, config: DictConfig) -> None:
    if OmegaConf.is_list(options.direction) or isinstance(options.direction, list):
        raise UserError(
            "hydra.sweeper.direction must be one direction, got a list: trials have one objective"
        )
    if options.repeats > 1 and "seed" in space.distributions:
        raise UserError(
            f"hydra.sweeper.repeats={options.repeats} takes the seeds from seed={config.seed} on, "
            "got several; leave out seed, or give one"
        )


def _sampler_seed(options: Options, config: DictConfig) -> int:
    seed = options.sampler.get("seed")
    return int(config.seed if seed is None else seed)


def _plan(
    options: Options, space: Any, config: DictConfig, launcher: Launcher, task: InSearch
) -> None:
    """Say what would be trained: the next batch, and how many there are."""
    from trialstack.sweep.study import Study, open_study, study_in_memory

    folder, towards = Path(str(config.hydra.sweep.dir)), NAMES[direction(str(config.objective))]
    memory = study_in_memory(towards)
    if (folder / layout.STUDY).exists() or options.storage is not None:
        name = options.study_name or folder.name
        opened, _ = open_study(folder, options.storage, name, towards)
        memory.add_trials([trial for trial in opened.get_trials() if trial.state.is_finished()])
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
    print(
        f"{task.shared.number - 1} of {task.shared.of} batches are trained, this is the next one"
        f" of a search of {options.n_trials} trials{each}"
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
        from trialstack.sweep.study import Study, open_study

        self.options = options
        self.config = config
        self.launcher = launcher
        self.task = task
        self.shared = task.shared
        self.folder = folder
        self.objective = str(config.objective)
        opened, damaged = open_study(
            folder,
            options.storage,
            options.study_name or folder.name,
            NAMES[direction(self.objective)],
        )
        self.study = Study(opened, space, options.sampler, _sampler_seed(options, config), config)
        if damaged:
            self._rebuild()
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
        """Tell what came out; return how many failed."""
        return sum(
            self._tell_one(trial, jobs) == Status.FAILED
            for (trial, _), jobs in zip(asked, returned, strict=True)
        )

    def _tell_one(self, trial: "Trial", jobs: Sequence[JobReturn]) -> Status:
        from optuna.trial import TrialState

        folders = [folder for job in jobs if (folder := getattr(job, "folder", None)) is not None]
        found = self._found(folders, [_score(job) for job in jobs])
        for name, value in found.attributes.items():
            trial.set_user_attr(name, value)
        # of a command that was killed while it told
        there = self.study.trials[trial.number].intermediate_values
        for epoch, score in found.by_epoch.items():
            if epoch not in there:
                trial.report(score, epoch)
        pruned = found.state == TrialState.PRUNED
        self.study.study.tell(trial, None if pruned else found.value, state=found.state)
        return found.status

    def _found(self, folders: Sequence[Path], scores: Sequence[float]) -> "_Found":
        """What has come out of a suggestion.

        Args:
            folders: of its trials; none if another launcher trained them.
            scores: their objectives.
        """
        from optuna.trial import TrialState

        status = _worst([(Result.read(folder) or Result()).status for folder in folders])
        if status == Status.COMPLETED and any(map(math.isnan, scores)):
            status = Status.FAILED
        by_epoch = dict(self._by_epoch(folders))
        if status == Status.DIVERGED:  # a sampler looks at the last epoch
            by_epoch[max(by_epoch, default=0) + 1] = math.nan
        state = {Status.COMPLETED: TrialState.COMPLETE, Status.FAILED: TrialState.FAIL}.get(
            status, TrialState.PRUNED
        )
        value = fmean(scores) if state == TrialState.COMPLETE else None
        if state == TrialState.PRUNED:  # what Optuna makes of it by itself
            last = by_epoch[max(by_epoch)] if by_epoch else math.nan
            value = None if math.isnan(last) else last
        names = [os.path.relpath(folder, self.folder) for folder in folders]
        return _Found(status, state, value, by_epoch, {"status": str(status), "folder": names})

    def _by_epoch(self, folders: Sequence[Path]) -> list[tuple[int, float]]:
        """The objective's mean over seeds, by epoch that all of them have."""
        by_seed = [
            {
                int(row["epoch"]): row[self.objective]
                for row in read_rows(folder / layout.METRICS)
                if self.objective in row
            }
            for folder in folders
        ]
        epochs = set.intersection(*map(set, by_seed)) if by_seed else set()
        return [(epoch, fmean(seed[epoch] for seed in by_seed)) for epoch in sorted(epochs)]

    def _rebuild(self) -> None:
        """Tell a new study what lies in the trials' folders."""
        from optuna.trial import create_trial

        rows: dict[str, list[tuple[Path, Indexed]]] = {}
        for name, indexed in SweepIndex.read(self.folder).trials.items():
            rows.setdefault(indexed.row, []).append((self.folder / name, indexed))
        space, told = self.study.space, 0
        for row in rows.values():
            folders = [folder for folder, _ in row]
            results = [Result.read(folder) for folder in folders]
            if any(
                result is None or not (result.status.is_final or result.status == Status.STOPPED)
                for result in results
            ):
                break  # what comes after it is suggested again
            scores = [result.objective for result in results if result is not None]
            found = self._found(folders, [math.nan if score is None else score for score in scores])
            try:
                trial = create_trial(
                    state=found.state,
                    value=found.value,
                    params=space.params_of(row[0][1].value),
                    distributions=dict(space.distributions),
                    user_attrs=dict(found.attributes),
                    intermediate_values=dict(found.by_epoch),
                )
            except ValueError:  # it is of another space
                continue
            self.study.study.add_trial(trial)
            told += 1
        log.warning(
            "%s was damaged; %d trials are read from their folders again, the file is kept as "
            "%s.damaged",
            layout.STUDY,
            told,
            layout.STUDY,
        )

    def _write_best(self) -> None:
        from optuna.trial import TrialState

        done = [t for t in self.study.trials if t.state == TrialState.COMPLETE]
        if not done:
            return
        best = self.study.study.best_trial
        values = {"name": "optuna", "best_params": best.params, "best_value": best.value}
        OmegaConf.save(OmegaConf.create(values), self.folder / layout.OPTIMIZATION_RESULTS)


class _Found(NamedTuple):
    """What a study is told of a suggestion."""

    status: Status
    state: Any
    value: float | None
    by_epoch: Mapping[int, float]
    attributes: Mapping[str, Any]


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def _score(job: JobReturn) -> float:
    value = outcome(job)
    return math.nan if isinstance(value, Exception) else float(value)


def _worst(statuses: Sequence[Status]) -> Status:
    order = (Status.FAILED, Status.INTERRUPTED, Status.DIVERGED, Status.STOPPED)
    return next((status for status in order if status in statuses), Status.COMPLETED)
