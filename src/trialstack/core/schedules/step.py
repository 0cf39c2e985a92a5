"""The optimizer's learning rate times a number every few epochs
(torch.optim.lr_scheduler.StepLR).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numpy import float64
    from numpy.typing import NDArray

from trialstack.core.key import key
from trialstack.core.rule import positive, whole
from trialstack.core.schedule import Length, WarmedUp, log10


@dataclass(frozen=True, kw_only=True)
class Step(WarmedUp):
    """A staircase.

    Attributes:
        step_size: epochs between two steps of it.
        gamma: what the rate is multiplied by at each.
    """

    step_size: int = key(whole(1, "10"), varies=True)
    gamma: float = key(positive("0.1"), varies=True)

    def rates_after(
        self, steps_K: NDArray[float64], base: float, length: Length
    ) -> NDArray[float64]:
        return base * self.gamma ** (steps_K // max(1, round(self.step_size * length.epoch_steps)))

    def largest(self, base: float, epochs: int) -> float:
        return log10(base) + max(0.0, log10(self.gamma)) * ((epochs - 1) // self.step_size)
