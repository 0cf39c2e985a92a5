"""Up to a peak and down again over the whole run (torch.optim.lr_scheduler.OneCycleLR; Smith, Topin
2018).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from numpy import float64
    from numpy.typing import NDArray

from trialstack.core.key import key
from trialstack.core.rule import number, positive
from trialstack.core.schedule import Length, OfSteps, either, half_cosine, log10


@dataclass(frozen=True, kw_only=True)
class OneCycle(OfSteps):
    """Two half cosines, whatever the optimizer's learning rate; it warms up by itself.

    Attributes:
        max_lr: rate at the peak.
        pct_start: part of the run in which the rate rises.
        div_factor: the peak divided by this is the first rate.
        final_div_factor: the first rate divided by this is the last one.
    """

    laid_out: ClassVar[bool] = True
    max_lr: float = key(positive("0.1"), varies=True)
    pct_start: float = key(number("between 0 and 1", lambda x: 0 < x < 1, "0.3"), varies=True)
    div_factor: float = key(positive("25.0"), varies=True)
    final_div_factor: float = key(positive("1e4"), varies=True)

    def rates(self, steps_K: NDArray[float64], base: float, length: Length) -> NDArray[float64]:
        first = self.max_lr / self.div_factor
        top, end = self.pct_start * length.steps - 1, length.steps - 1
        # a rise of one step is at its beginning in that step
        rising = half_cosine(first, self.max_lr, steps_K / (top or 1))
        falling = half_cosine(
            self.max_lr, first / self.final_div_factor, (steps_K - top) / (end - top)
        )
        return either(steps_K <= top, rising, falling)

    def largest(self, base: float, epochs: int) -> float:
        first = -log10(self.div_factor)
        return log10(self.max_lr) + max(0.0, first, first - log10(self.final_div_factor))
