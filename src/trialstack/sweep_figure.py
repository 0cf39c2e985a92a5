"""A sweep as a picture: the objective against every value that varies, and all of them at once."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure, SubFigure

from trialstack.atomic import replaced
from trialstack.leaderboard import Leaderboard, Row
from trialstack.objective import direction

WIDE = 20
"""Ratio of the largest to the smallest value from which on an axis is logarithmic."""

EDGE = 0.15
"""How far outside, as a part of the axis, values without a result are drawn that would stretch it by more."""

SPREAD = 0.06
"""Width of all lines together where they go through the same name, so that none hides another."""


def save_figure(leaderboard: Leaderboard, path: Path) -> None:
    """Write the picture as PNG."""
    with replaced(path) as temporary:
        sweep_figure(leaderboard).savefig(temporary, format="png", dpi=120)


def sweep_figure(leaderboard: Leaderboard) -> Figure:
    """Plot the objective against each key that varies; of several, also parallel coordinates, a line a row."""
    keys = leaderboard.keys or ["seed"]
    several = len(keys) > 1 and leaderboard.best is not None
    columns = min(len(keys), 3)
    rows = -(-len(keys) // columns)
    heights = [3.6 * rows, *([3.6] if several else [])]
    figure = Figure(figsize=(max(6.5, 4.5 * columns), sum(heights)), layout="constrained")
    parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False).ravel()
    grid = parts[0].subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for axes in grid[len(keys) :]:
        axes.axis("off")
    for key, axes in zip(keys, grid, strict=False):
        _plot_key(axes, key, leaderboard)
    if grid[0].get_legend_handles_labels()[0]:
        grid[0].legend(fontsize=8)
    if several:
        _plot_parallel(parts[1], keys, leaderboard)
    return figure


class _Scale:
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
            low, high = self._number(min(values)), self._number(max(values))
            margin = EDGE * (high - low) or abs(low) or 1.0
            places = {key: self._number(item) for key, item in zip(self._places, ordered, strict=True)}
            self._places = {key: min(max(place, low - margin), high + margin) for key, place in places.items()}
        self.ends = min(self._places.values()), max(self._places.values())
        names: dict[float, list[str]] = {}
        for item in ordered:
            name = f"{item:.4g}" if type(item) is float else _text(item)
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

    def part(self, place: float) -> float:
        """How far from one end to the other a place is, from 0 to 1."""
        low, high = self.ends
        return 0.5 if high == low else (place - low) / (high - low)


def _scale(key: str, leaderboard: Leaderboard) -> _Scale:
    """The axis of a key: trials without a result do not stretch it."""
    values = [entry.trial.value(key) for entry in leaderboard.entries if entry.objective is not None]
    others = [entry.trial.value(key) for entry in leaderboard.entries if entry.objective is None]
    return _Scale(values, others) if values else _Scale(others)


def _plot_key(axes: Axes, key: str, leaderboard: Leaderboard) -> None:
    scale = _scale(key, leaderboard)
    if leaderboard.keys:
        points = [(row.values[key], row.mean, row.interval or 0.0) for row in leaderboard.rows]
    else:
        points = [(entry.trial.value(key), entry.objective, 0.0) for entry in leaderboard.entries]
    there = sorted((scale.place(x), y, error) for x, y, error in points if y is not None)
    if there:
        x, y, error = zip(*there, strict=True)
        if len(leaderboard.keys) > 1:
            axes.plot(x, y, "o", markersize=4, alpha=0.5, label="mean")
            best: dict[float, float] = {}
            choose = min if direction(leaderboard.objective) == "min" else max
            for place, score, _ in there:
                best[place] = choose(score, best.get(place, score))
            style = "-" if scale.numeric else "_"
            axes.plot(list(best), list(best.values()), style, linewidth=1, markersize=16, alpha=0.7, label="best")
        elif leaderboard.keys:
            style = "o-" if scale.numeric else "o"
            axes.errorbar(
                x, y, error, fmt=style, markersize=4, linewidth=1, capsize=2, elinewidth=0.8, label="mean, 95% CI"
            )
        else:
            axes.plot(x, y, "o", markersize=4)
        if min(y) > 0 and max(y) / min(y) >= WIDE and direction(leaderboard.objective) == "min":
            axes.set_yscale("log")
        else:
            margin = 0.08 * (max(y) - min(y)) or 0.01
            axes.set_ylim(min(y) - 2 * margin, max(y) + margin)  # intervals of two trials may be wide
    missing = [scale.place(x) for x, y, _ in points if y is None]
    if missing:
        below = axes.get_xaxis_transform()
        axes.plot(missing, [0.03] * len(missing), "x", color="tab:red", transform=below, label="no result")
    ticks = list(scale.ticks.items())
    places, names = zip(*(ticks if len(ticks) <= 8 else (ticks[0], ticks[len(ticks) // 2], ticks[-1])), strict=True)
    axes.set_xticks(places, names, rotation=30, ha="right")
    axes.set(xlabel=f"{key} (log)" if scale.log else key, ylabel=leaderboard.objective)
    axes.grid(alpha=0.3)


def _plot_parallel(figure: SubFigure, keys: Sequence[str], leaderboard: Leaderboard) -> None:
    rows = [row for row in reversed(leaderboard.rows) if row.mean is not None]  # the best on top
    scales = {key: _scale(key, leaderboard) for key in keys}
    scores = _Scale([row.mean for row in rows])
    axes = figure.subplots()
    columns = range(len(keys) + 1)
    spreads = [SPREAD * (rank / max(len(rows) - 1, 1) - 0.5) for rank in range(len(rows))]
    lines = [_line(row, scales, scores, spread) for row, spread in zip(rows, spreads, strict=True)]
    colours = colormaps["viridis" if direction(leaderboard.objective) == "max" else "viridis_r"]
    axes.add_collection(
        LineCollection(
            [list(zip(columns, line, strict=True)) for line in lines],
            colors=[colours(line[-1]) for line in lines],
            linewidths=[2.5 if row is leaderboard.rows[0] else 1 for row in rows],
            alpha=0.7,
        )
    )
    for column, scale in zip(columns, [*scales.values(), scores], strict=True):
        axes.axvline(column, color="black", linewidth=0.8)
        ticks = list(scale.ticks.items())
        for place, name in ticks if len(ticks) <= 8 and scale is not scores else dict((ticks[0], ticks[-1])).items():
            at = (column, scale.part(place))
            axes.annotate(name, at, xytext=(3, 0), textcoords="offset points", fontsize=8)
    axes.set_xticks(columns, [*keys, leaderboard.objective])
    axes.set_yticks([])
    axes.set(xlim=(-0.1, len(keys) + 0.35), ylim=(-0.05, 1.05))
    axes.spines[:].set_visible(False)


def _line(row: Row, scales: dict[str, _Scale], scores: _Scale, spread: float) -> list[float]:
    """Heights of a row's line on every axis, from 0 to 1."""
    at_keys = [
        scale.part(scale.place(row.values[key])) + (0 if scale.numeric else spread) for key, scale in scales.items()
    ]
    return [*at_keys, scores.part(scores.place(row.mean))]


def _text(item: Any) -> str:
    return item if isinstance(item, str) else json.dumps(item)
