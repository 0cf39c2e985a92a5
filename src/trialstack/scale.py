"""Where the values of a key stand on an axis of a picture."""

import json
import math
from collections.abc import Sequence
from typing import Any

from trialstack.sweep_index import shown

WIDE = 20
"""Ratio of the largest to the smallest value from which on an axis is logarithmic."""

EDGE = 0.15
"""How far outside, as a part of the axis, values without a result are drawn that would more than triple it."""


class Scale:
    """Positions of a key's values on an axis: numbers where they are, on a log scale if wide; others side by side.

    Args:
        values: that have results, or all if none has.
        others: numbers far outside of these are drawn at the edge.
    """

    def __init__(self, values: Sequence[Any], others: Sequence[Any] = ()) -> None:
        distinct = list({json.dumps(item): item for item in (*values, *others)}.values())
        self.numeric = all(type(item) in (int, float) for item in distinct) and len(distinct) > 1
        self.log = self.numeric and min(values) > 0 and max(values) / min(values) >= WIDE
        ordered = sorted(distinct) if self.numeric else distinct
        self._places = {json.dumps(item): float(i) for i, item in enumerate(ordered)}
        if self.numeric:
            places = {key: self._number(item) for key, item in zip(self._places, ordered, strict=True)}
            low, high = self._number(min(values)), self._number(max(values))
            span = high - low or WIDE * abs(low) or 1.0
            near = [place for place in places.values() if low - span <= place <= high + span]
            margin = EDGE * (max(near) - min(near) or span)
            low, high = min(near) - margin, max(near) + margin
            self._places = {key: min(max(place, low), high) for key, place in places.items()}
        self.ends = min(self._places.values()), max(self._places.values())
        names: dict[float, list[str]] = {}
        for item in ordered:
            name = f"{item:.4g}" if type(item) is float else shown(item)
            names.setdefault(self.place(item), []).append(name)
        self.ticks = {place: " ... ".join(dict.fromkeys((of[0], of[-1]))) for place, of in names.items()}
        if self.numeric:
            for item in (ordered[0], ordered[-1]):
                if self._number(item) != self.place(item):
                    self.ticks[self.place(item)] += "\n(off scale)"

    def _number(self, item: float) -> float:
        if self.log:
            return math.log10(item) if item > 0 else -math.inf
        return float(item)

    def place(self, item: Any) -> float:
        return self._places[json.dumps(item)]

    def named(self, key: str) -> str:
        return f"{key} (log)" if self.log else key

    def part(self, place: float) -> float:
        """How far from one end to the other a place is, from 0 to 1."""
        low, high = self.ends
        return 0.5 if high == low else (place - low) / (high - low)
