"""Half a cosine from the optimizer's learning rate down
(torch.optim.lr_scheduler.CosineAnnealingLR).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from numpy import float64
    from numpy.typing import NDArray

from trialstack.core.key import key
from trialstack.core.rule import not_negative
from trialstack.core.schedule import Length, WarmedUp, half_cosine, log10


@dataclass(frozen=True, kw_only=True)
class Cosine(WarmedUp):
    """Reaches its end with the run.

    Attributes:
        eta_min: rate at the end.
    """

    laid_out: ClassVar[bool] = True
    eta_min: float = key(not_negative("0.0"), varies=True)

    def rates_after(
        self, steps_K: NDArray[float64], base: float, length: Length
    ) -> NDArray[float64]:
        return half_cosine(base, self.eta_min, steps_K / length.steps)

    def largest(self, base: float, epochs: int) -> float:
        return max(log10(base), log10(self.eta_min))
