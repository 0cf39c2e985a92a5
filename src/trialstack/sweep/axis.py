"""Where values of keys and of the objective stand on the axes of pictures."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from trialstack.core.identity import shown
from trialstack.core.objective import direction, rounded

WIDE = 20
"""Ratio of the largest to the smallest value from which on an axis is logarithmic."""

EDGE = 0.15
"""How far outside, as a part of the axis, values without a result are drawn that would more than
triple it.
"""

APART = 0.06
"""Least distance of the names on an axis, as a part of it: nearer ones would be written over each
other.
"""

LONGEST = 24
"""Letters of a name on an axis."""


class Scale:
    """Positions of a key's values on an axis: numbers where they are, on a log scale if wide;
    others side by side.

    Args:
        values: that have results, or all if none has.
        others: numbers far outside of these are drawn at the edge.
        log: whether numbers above 0 are on a log scale; None if that follows from them.
    """

    def __init__(
        self, values: Sequence[Any], others: Sequence[Any] = (), log: bool | None = None
    ) -> None:
        distinct = list({json.dumps(item): item for item in (*values, *others)}.values())
        numbers = all(type(item) in (int, float) and math.isfinite(item) for item in distinct)
        self.numeric = numbers and len(distinct) > 1
        self.log = (
            self.numeric
            and min(values) > 0
            and (max(values) / min(values) >= WIDE if log is None else log)
        )
        ordered = sorted(distinct) if self.numeric else distinct
        self._places = {json.dumps(item): float(i) for i, item in enumerate(ordered)}
        if self.numeric:
            places = {
                key: self._number(item) for key, item in zip(self._places, ordered, strict=True)
            }
            low, high = self._number(min(values)), self._number(max(values))
            span = high - low or WIDE * abs(low) or 1.0
            near = [place for place in places.values() if low - span <= place <= high + span]
            margin = EDGE * (max(near) - min(near) or span)
            low, high = min(near) - margin, max(near) + margin
            self._places = {key: min(max(place, low), high) for key, place in places.items()}
        self.ends = min(self._places.values()), max(self._places.values())
        names: dict[float, list[str]] = {}
        for item in ordered:
            name = f"{item:.4g}" if type(item) is float else _short(shown(item))
            names.setdefault(self.place(item), []).append(name)
        ticks = {place: " ... ".join(dict.fromkeys((of[0], of[-1]))) for place, of in names.items()}
        if self.numeric:
            for item in (ordered[0], ordered[-1]):
                if self._number(item) != self.place(item):
                    ticks[self.place(item)] += "\n(off scale)"
        self.ticks = {place: ticks[place] for place in _apart(ticks, self.part)}

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


class ScoreScale:
    """The axis of the objective: what is far worse than the better third does not flatten it.

    Args:
        scores: there is at least one.
        extents: ends of intervals around them; they widen the axis unless they are as far off.
        objective: whose scores they are.

    Attributes:
        higher: scores are better.
        log: a logarithmic axis.
        ends: of the axis.
    """

    def __init__(self, scores: Sequence[float], extents: Iterable[float], objective: str) -> None:
        self.higher = direction(objective) == "max"
        best = max(scores) if self.higher else min(scores)
        ratios = not self.higher and best > 0
        distances = {score: self._distance(score, best, ratios) for score in scores}
        ordered = sorted(distances.values())
        third = next((there for there in ordered[-(-(len(scores) - 1) // 3) :] if there > 0), 0.0)
        near = [score for score in scores if distances[score] <= WIDE * third]
        self.log = ratios and max(near) / min(near) >= WIDE
        limits = (0.0, 1.0) if self.higher else (min(near) / WIDE if self.log else 0.0, math.inf)
        inside = [end for end in extents if self._distance(end, best, ratios) <= WIDE * third]
        inside = [min(max(end, limits[0]), limits[1]) for end in inside]
        low, high = min(*near, *inside, math.inf), max(*near, *inside, -math.inf)
        if self.log:
            margin = math.pow(high / low, 0.06)
            self.ends = low / margin, high * margin
        else:
            margin = 0.06 * (high - low or abs(low) or 1.0)
            self.ends = low - margin, high + margin

    @staticmethod
    def _distance(score: float, best: float, ratios: bool) -> float:
        """How far from the best: in decades for losses, where several may matter."""
        if not ratios:
            return abs(score - best)
        return abs(math.log10(score / best)) if score > 0 else 0.0

    def off(self, score: float) -> bool:
        """Whether a score is beyond the axis."""
        return not self.ends[0] <= score <= self.ends[1]

    def place(self, score: float) -> float:
        """Where a score is drawn: if it is beyond the axis, at its end."""
        return min(max(score, self.ends[0]), self.ends[1])

    def height(self, score: float) -> float:
        """How far from the worst end (0) to the best (1) a score is drawn."""
        low, high, place = *self.ends, self.place(score)
        if self.log:
            low, high, place = math.log10(low), math.log10(high), math.log10(place)
        part = (place - low) / (high - low)
        return part if self.higher else 1 - part


def off_scale(scores: Sequence[float]) -> str:
    """Return the name of scores that are beyond the axis."""
    return " to ".join(dict.fromkeys((rounded(min(scores)), rounded(max(scores))))) + " (off scale)"


def _apart(ticks: Mapping[float, str], part: Any) -> list[float]:
    """The first and the last place, and as many between as can be written."""
    first, *others = sorted(ticks)
    kept = [first]
    for place in others[:-1]:
        if part(place) - part(kept[-1]) >= APART and part(others[-1]) - part(place) >= APART:
            kept.append(place)
    return [*kept, *others[-1:]]


def _short(name: str) -> str:
    half = LONGEST // 2
    return name if len(name) <= LONGEST else f"{name[: half - 1]}...{name[-half + 2 :]}"
