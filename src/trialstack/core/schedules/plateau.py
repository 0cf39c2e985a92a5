"""The optimizer's learning rate times a number whenever a metric no longer improves
(torch.optim.lr_scheduler.ReduceLROnPlateau).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trialstack.core.key import key
from trialstack.core.objective import METRIC
from trialstack.core.rule import not_negative, number, one_of, whole
from trialstack.core.schedule import Schedule


@dataclass(frozen=True, kw_only=True)
class Plateau(Schedule):
    """Of the eager engine alone: the rates follow from what is measured, and so are no function of
    the step.

    Attributes:
        monitor: the metric that it follows.
        factor: what the rate is multiplied by.
        patience: epochs with a measurement, but without an improvement, that do not reduce it.
        threshold: change that is an improvement.
        threshold_mode: `rel`, a part of the best value so far, or `abs`.
        cooldown: epochs after a reduction that do not count.
        min_lr: rate below which it is not reduced.
        eps: change of the rate that is too small to be made.
    """

    monitor: str = key(METRIC)
    factor: float = key(number("between 0 and 1", lambda x: 0 < x < 1, "0.1"))
    patience: int = key(whole(0, "10"))
    threshold: float = key(not_negative("1e-4"))
    threshold_mode: str = key(one_of("rel", "abs"))
    cooldown: int = key(whole(0, "0"))
    min_lr: float = key(not_negative("0.0"))
    eps: float = key(not_negative("1e-8"))

    @property
    def arguments(self) -> Mapping[str, Any]:
        """Of torch's scheduler, under its names."""
        return {name: value for name, value in self.values.items() if name not in _OURS}


_OURS = ("name", "monitor")
