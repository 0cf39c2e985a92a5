"""A power of the part of the run that is left (torch.optim.lr_scheduler.PolynomialLR)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from numpy import float64
    from numpy.typing import NDArray

from trialstack.core.key import key
from trialstack.core.rule import positive
from trialstack.core.schedule import Length, WarmedUp


@dataclass(frozen=True, kw_only=True)
class Polynomial(WarmedUp):
    """Reaches 0 with the run.

    Attributes:
        power: of the part that is left; 1 for a straight line.
    """

    laid_out: ClassVar[bool] = True
    power: float = key(positive("1.0"), varies=True)

    def rates_after(
        self, steps_K: NDArray[float64], base: float, length: Length
    ) -> NDArray[float64]:
        return base * (1 - steps_K / length.steps) ** self.power
