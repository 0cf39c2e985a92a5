"""How much the parameters of a search matter: Optuna's PED-ANOVA, of all trials after as many
epochs.

Optuna alone would count only trials that ended, which halving leaves few of, and alike.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.study import StudyDirection
from optuna.trial import create_trial

from trialstack.sweep.study import read_study, study_in_memory

FEWEST = 8
"""Trials without which nothing can be said."""


class Searched(NamedTuple):
    """What a study knows of a sweep.

    Attributes:
        log: of each parameter that is a number, whether its scale is logarithmic.
        importances: parts of 1, the largest first; none of a single parameter, or of few trials.
        epoch: after which they are.
    """

    log: Mapping[str, bool]
    importances: Mapping[str, float]
    epoch: int


def searched(folder: Path) -> Searched | None:
    """Return what the study in a sweep's folder knows; None if there is none."""
    study = read_study(folder, None, None)
    if study is None:
        return None
    trials = [trial for trial in study.get_trials(deepcopy=False) if trial.intermediate_values]
    log = {
        key: distribution.log
        for trial in trials
        for key, distribution in trial.distributions.items()
        if hasattr(distribution, "log")
    }
    epoch = min((max(trial.intermediate_values) for trial in trials), default=0)
    compared = study_in_memory(
        "minimize" if study.direction == StudyDirection.MINIMIZE else "maximize"
    )
    for trial in trials:
        value = trial.intermediate_values.get(epoch, math.nan)
        if math.isfinite(value):
            compared.add_trial(
                create_trial(params=trial.params, distributions=trial.distributions, value=value)
            )
    return Searched(log, _importances(compared), epoch)


def _importances(study: optuna.Study) -> dict[str, float]:
    trials = study.get_trials(deepcopy=False)
    if len(trials) < FEWEST or len(set.intersection(*(set(t.params) for t in trials))) < 2:
        return {}
    return get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
