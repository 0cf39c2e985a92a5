"""The Optuna study of a search: asked batch by batch, told what came out, and durable.

A trial's parameters depend on the search's seed, the trial's number, and what the study was told
before: whoever goes on with a study after a crash is given what it would have been.
"""

import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import optuna
from hydra.utils import instantiate
from omegaconf import DictConfig
from optuna.samplers import BaseSampler, RandomSampler
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState
from scipy.stats.qmc import Sobol

from trialstack.core import layout
from trialstack.core.configs import options
from trialstack.core.errors import UserError
from trialstack.core.random_streams import stream
from trialstack.sweep.search_space import Space

MOST_SEED = 2**32

Direction = Literal["minimize", "maximize"]


class Suggestion(NamedTuple):
    """Attributes:
    trial: Optuna's.
    overrides: with its parameters.
    """

    trial: Trial
    overrides: list[str]


class Study:
    """A study with its search space.

    Args:
        study: Optuna's.
        space: what it searches in.
        sampler: its `_target_` and arguments.
        seed: of the search.
        config: of the sweep, for a space of the user's own.
    """

    def __init__(
        self,
        study: optuna.Study,
        space: Space,
        sampler: Mapping[str, Any],
        seed: int,
        config: DictConfig,
    ) -> None:
        self.study = study
        self.space = space
        self.sampler = sampler
        self.seed = seed
        self.config = config

    @property
    def trials(self) -> list[FrozenTrial]:
        """In the order of their numbers."""
        return self.study.get_trials(deepcopy=False)

    def check_space(self) -> None:
        """Check that the study's trials are of this space.

        Raises:
            UserError: a parameter is another.
        """
        for trial in self.trials:
            for key, distribution in trial.distributions.items():
                own = self.space.distributions.get(key)
                if own is None and self.space.extend is not None:
                    continue
                if own != distribution:
                    raise UserError(
                        f"the study has trials of another space: of {key} they have "
                        f"{_shown(distribution)}, got {_shown(own)}; use another sweep=NAME"
                    )

    @property
    def told(self) -> int:
        """How many trials have ended."""
        return sum(trial.state.is_finished() for trial in self.trials)

    def batch(self, size: int, total: int) -> list[Suggestion]:
        """Return the next trials, none if there are as many as there should be.

        A command that was killed has left some of its batch. In the middle of asking, they are
        completed to what it would have been; in the middle of telling, the later ones are told, and
        come with it, for they are compared with each other.

        Args:
            size: of a batch.
            total: trials of the study.
        """
        waiting = [trial for trial in self.trials if trial.state == TrialState.RUNNING]
        begin = waiting[0].number if waiting else len(self.trials)
        if begin + len(waiting) < len(self.trials):
            return [
                Suggestion(Trial(self.study, trial._trial_id), self.space.overrides(trial.params))
                for trial in self.trials[begin:]
            ]
        count = max(min(size, total - begin), len(waiting))
        points_nd = self._spread(count) if begin == 0 else None
        suggestions = []
        for place in range(count):
            number = begin + place
            self.study.sampler = self._sampler(number)
            if points_nd is not None:
                chosen = self.space.at(points_nd[place])
                self.study.sampler = _AtPoint(chosen, self._seed(number))
            left = place < len(waiting)
            trial = Trial(self.study, waiting[place]._trial_id) if left else self.study.ask()
            suggestions.append(Suggestion(trial, self.space.suggest(trial, self.config)))
        return suggestions

    def _spread(self, count: int) -> Sequence[Sequence[float]]:
        """Points of a scrambled Sobol sequence: scipy's, for torch's would start threads before
        training says how they treat the smallest numbers, which makes it slow.
        """
        dimensions = len(self.space.distributions)
        if dimensions == 0:
            return [[]] * count
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a power of two is balanced
            points: Sequence[Sequence[float]] = (
                Sobol(dimensions, rng=self._seed(0)).random(count).tolist()
            )
        return points

    def _sampler(self, number: int) -> BaseSampler:
        kind = str(self.sampler["_target_"])
        # a sequence goes on where it was, others draw anew for each trial
        seed = self._seed(0 if kind.endswith(".QMCSampler") else number)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            try:
                made = instantiate({**self.sampler, "seed": seed})
            except Exception as error:
                raise UserError(
                    f"hydra.sweeper.sampler: {' '.join(str(error).split())}; see "
                    f"{options('hydra/sweeper/sampler')}"
                ) from error
        if not isinstance(made, BaseSampler):
            raise UserError(f"hydra.sweeper.sampler must be a sampler of Optuna, got {kind}")
        return made

    def _seed(self, number: int) -> int:
        return stream(self.seed, number) % MOST_SEED


class _AtPoint(RandomSampler):
    """Gives parameters that are chosen already, and random ones besides."""

    def __init__(self, params: Mapping[str, Any], seed: int) -> None:
        super().__init__(seed)
        self.params = params

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: optuna.distributions.BaseDistribution,
    ) -> Any:
        if param_name in self.params:
            return self.params[param_name]
        return super().sample_independent(study, trial, param_name, param_distribution)


def read_study(folder: Path, storage: str | None, name: str | None) -> optuna.Study | None:
    """Return the study in a sweep's folder, or in another storage; None if there is none that can
    be read. Nothing is written. A study without a name is the only one there.

    Raises:
        UserError: the storage cannot be used.
    """
    file = folder / layout.STUDY
    if storage is None and not file.exists():
        return None
    try:
        with _quiet():
            return optuna.load_study(study_name=name, storage=storage or _journal(file))
    except KeyError:
        return None
    except Exception as error:
        if storage is not None:
            raise UserError(
                f"hydra.sweeper.storage={storage}: {' '.join(str(error).split())}"
            ) from error
        if isinstance(error, OSError):
            raise
        return None


def cut_tail(folder: Path) -> None:
    """Remove from the study in a sweep's folder, which no other process may use, what one that was
    killed has begun to write: more would be appended to it.
    """
    file = folder / layout.STUDY
    if not file.exists():
        return
    lines = whole = file.read_bytes().splitlines(keepends=True)
    while whole and not (whole[-1].endswith(b"\n") and _is_json(whole[-1])):
        whole = whole[:-1]
    if whole and len(whole) < len(lines):
        os.truncate(file, sum(map(len, whole)))


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def new_study(
    folder: Path,
    storage: str | None,
    name: str,
    direction: Direction,
    trials: Sequence[FrozenTrial],
) -> optuna.Study:
    """Make a study of some trials, where `read_study` finds it; a file that is there is set
    aside.
    """
    if storage is not None:
        return _study(storage, name, direction)
    file, part = folder / layout.STUDY, folder / f"{layout.STUDY}.new"
    part.unlink(missing_ok=True)
    _study(_journal(part), name, direction).add_trials(trials)
    if file.exists():
        os.replace(file, file.with_name(f"{file.name}.damaged"))
    os.replace(part, file)
    return _study(_journal(file), name, direction)


def study_in_memory(direction: Direction) -> optuna.Study:
    return _study(InMemoryStorage(), None, direction)


def _journal(file: Path) -> JournalStorage:
    return JournalStorage(JournalFileBackend(str(file)))


def _study(storage: str | BaseStorage, name: str | None, direction: Direction) -> optuna.Study:
    with _quiet():
        return optuna.create_study(
            storage=storage, study_name=name, direction=direction, load_if_exists=True
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Have Optuna not say that it made or found a study."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def _shown(distribution: Any) -> str:
    if distribution is None:
        return "nothing"
    if isinstance(distribution, optuna.distributions.CategoricalDistribution):
        return f"choice({', '.join(map(str, distribution.choices))})"
    ends = f"{distribution.low:g} to {distribution.high:g}"
    return f"{ends}, log" if distribution.log else ends
