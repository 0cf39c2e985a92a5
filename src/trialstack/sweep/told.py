"""What a study is told of a suggestion: what lies in its trials' folders."""

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from trialstack.core import layout
from trialstack.run.metrics_csv import read_rows
from trialstack.run.result import Result
from trialstack.run.status import Status
from trialstack.sweep.index import Indexed, SweepIndex
from trialstack.sweep.search_space import Space

WORST = (Status.FAILED, Status.INTERRUPTED, Status.DIVERGED, Status.STOPPED)
"""The first of these that a trial has is the suggestion's status."""

STATES = {Status.COMPLETED: TrialState.COMPLETE, Status.FAILED: TrialState.FAIL}
"""Optuna's; what was stopped or diverged is pruned."""


class Told(NamedTuple):
    """What has come out of a suggestion.

    Attributes:
        status: the worst of its trials.
        state: Optuna's word for it.
        value: mean of the objectives.
        by_epoch: that mean after each epoch, as far as all trials have come.
        attributes: of the user, for Optuna: status and folders.
    """

    status: Status
    state: TrialState
    value: float | None
    by_epoch: Mapping[int, float]
    attributes: Mapping[str, Any]

    @classmethod
    def of(
        cls, sweep: Path, folders: Sequence[Path], scores: Sequence[float], objective: str
    ) -> "Told":
        """Read what has come out.

        Args:
            sweep: the sweep's folder.
            folders: of the suggestion's trials; none if another launcher trained them.
            scores: their objectives.
            objective: of the sweep.
        """
        statuses = [Result.of(folder).status for folder in folders]
        status = next((status for status in WORST if status in statuses), Status.COMPLETED)
        if status == Status.COMPLETED and any(map(math.isnan, scores)):
            status = Status.FAILED
        by_epoch = _by_epoch(folders, objective)
        if status == Status.DIVERGED:  # a sampler looks at the last epoch
            by_epoch[max(by_epoch, default=0) + 1] = math.nan
        state, value = STATES.get(status, TrialState.PRUNED), None
        if state == TrialState.COMPLETE:
            value = fmean(scores)
        elif state == TrialState.PRUNED and by_epoch:  # what Optuna makes of it by itself
            last = by_epoch[max(by_epoch)]
            value = None if math.isnan(last) else last
        names = [os.path.relpath(folder, sweep) for folder in folders]
        return cls(status, state, value, by_epoch, {"status": str(status), "folder": names})

    def tell(self, study: optuna.Study, trial: Trial) -> None:
        """Tell a study; a command that was killed may have told a part."""
        for name, value in self.attributes.items():
            trial.set_user_attr(name, value)
        there = study.get_trials(deepcopy=False)[trial.number].intermediate_values
        for epoch, score in self.by_epoch.items():
            if epoch not in there:
                trial.report(score, epoch)
        pruned = self.state == TrialState.PRUNED
        study.tell(trial, None if pruned else self.value, state=self.state)


def trials_in(sweep: Path, space: Space, objective: str) -> list[FrozenTrial]:
    """Return what a study of a space would have been told of the trials in a sweep's folder, up to
    the first one that has no result.
    """
    rows: dict[str, list[tuple[Path, Indexed]]] = {}
    for name, indexed in SweepIndex.read(sweep).trials.items():
        rows.setdefault(indexed.row, []).append((sweep / name, indexed))
    trials = []
    for row in rows.values():
        folders = [folder for folder, _ in row]
        results = [result for folder in folders if (result := Result.read(folder)) is not None]
        ended = [
            result
            for result in results
            if result.status.is_final or result.status == Status.STOPPED
        ]
        if len(ended) < len(row):
            break  # what comes after it is suggested again
        scores = [math.nan if one.objective is None else one.objective for one in ended]
        told = Told.of(sweep, folders, scores, objective)
        try:
            trials.append(
                create_trial(
                    state=told.state,
                    value=told.value,
                    params=space.params_of(row[0][1].value),
                    distributions=dict(space.distributions),
                    user_attrs=dict(told.attributes),
                    intermediate_values=dict(told.by_epoch),
                )
            )
        except ValueError:  # it is of another space
            continue
    return trials


def _by_epoch(folders: Sequence[Path], objective: str) -> dict[int, float]:
    by_seed = [
        {
            int(row["epoch"]): row[objective]
            for row in read_rows(folder / layout.METRICS)
            if objective in row
        }
        for folder in folders
    ]
    epochs = set.intersection(*map(set, by_seed)) if by_seed else set()
    return {epoch: fmean(seed[epoch] for seed in by_seed) for epoch in sorted(epochs)}
