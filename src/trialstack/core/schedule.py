"""What a schedule is: as a rule, the learning rate as one function of the optimizer step, for both
engines.

Shapes: K optimizer steps.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

if TYPE_CHECKING:  # commands that only read a config start without it
    from numpy import bool_, float64
    from numpy.typing import NDArray

from trialstack.core.key import Group, key
from trialstack.core.rule import not_negative


class Length(NamedTuple):
    """How long a run is.

    Attributes:
        steps: optimizer steps in all.
        epoch_steps: optimizer steps in an epoch.
    """

    steps: int
    epoch_steps: float


@dataclass(frozen=True, kw_only=True)
class Schedule(Group):
    """The keys of a `schedule` group.

    Attributes:
        laid_out: for a run's length, so that a longer run would have had other rates from the
            start.
    """

    laid_out: ClassVar[bool] = False

    def largest(self, base: float, epochs: int) -> float:
        """Return the decimal logarithm of the largest rate in a run of some epochs, minus infinity
        for rates of 0.
        """
        return log10(base)


@dataclass(frozen=True, kw_only=True)
class OfSteps(Schedule, ABC):
    """A schedule whose rates are known before the first step; trials of a stack may differ in its
    keys.
    """

    @abstractmethod
    def rates(self, steps_K: NDArray[float64], base: float, length: Length) -> NDArray[float64]:
        """Return the learning rates [K] of optimizer steps.

        Args:
            steps_K: their numbers in the run, from 0.
            base: the optimizer's learning rate.
            length: of the run.
        """


@dataclass(frozen=True, kw_only=True)
class WarmedUp(OfSteps):
    """A schedule after a linear warm-up to the optimizer's learning rate.

    Attributes:
        warmup_epochs: epochs, or a part of one.
    """

    warmup_epochs: float = key(not_negative("0.5"), varies=True)

    def rates(self, steps_K: NDArray[float64], base: float, length: Length) -> NDArray[float64]:
        # one step at least is left for what comes after
        warmup = min(round(self.warmup_epochs * length.epoch_steps), length.steps - 1)
        left = length._replace(steps=length.steps - warmup)
        after = self.rates_after((steps_K - warmup).clip(0), base, left)
        return either(steps_K < warmup, base * (steps_K + 1) / (warmup + 1), after)

    @abstractmethod
    def rates_after(
        self, steps_K: NDArray[float64], base: float, length: Length
    ) -> NDArray[float64]:
        """Return what `rates` does of the steps that the warm-up leaves, counted from its end."""


def half_cosine(start: float, end: float, part: NDArray[float64]) -> NDArray[float64]:
    """Return half a cosine: `start` at part 0, `end` at part 1."""
    import numpy as np  # not above: commands that only read a config start without it

    return end + (start - end) * (1 + np.cos(np.pi * part)) / 2


def either(
    first: NDArray[bool_], left: NDArray[float64], right: NDArray[float64]
) -> NDArray[float64]:
    """Return `left` where `first` holds, else `right`."""
    import numpy as np  # not above: commands that only read a config start without it

    return np.where(first, left, right)


def log10(number: float) -> float:
    """Return a decimal logarithm, minus infinity of 0."""
    return math.log10(number) if number else -math.inf
