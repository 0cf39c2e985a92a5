"""The optimizer's learning rate throughout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numpy import float64
    from numpy.typing import NDArray

from trialstack.core.schedule import Length, WarmedUp


@dataclass(frozen=True, kw_only=True)
class Constant(WarmedUp):
    """One rate."""

    def rates_after(
        self, steps_K: NDArray[float64], base: float, length: Length
    ) -> NDArray[float64]:
        return base + 0 * steps_K
