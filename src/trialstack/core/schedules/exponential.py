"""The optimizer's learning rate times a number every epoch, a little of it every step
(torch.optim.lr_scheduler.ExponentialLR).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numpy import float64
    from numpy.typing import NDArray

from trialstack.core.key import key
from trialstack.core.rule import positive
from trialstack.core.schedule import Length, WarmedUp, log10


@dataclass(frozen=True, kw_only=True)
class Exponential(WarmedUp):
    """The staircase with steps of an epoch is `step`.

    Attributes:
        gamma: what the rate is multiplied by in an epoch.
    """

    gamma: float = key(positive("0.9"), varies=True)

    def rates_after(
        self, steps_K: NDArray[float64], base: float, length: Length
    ) -> NDArray[float64]:
        return base * self.gamma ** (steps_K / length.epoch_steps)

    def largest(self, base: float, epochs: int) -> float:
        return log10(base) + max(0.0, log10(self.gamma)) * epochs
