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
    """Positions of a key's values on an axis: numbers where they are, on a log scale if wide; others side by side."""

    def __init__(self, values: Sequence[Any]) -> None:
        distinct = list({json.dumps(item): item for item in values}.values())
        self.numeric = all(type(item) in (int, float) for item in distinct) and len(distinct) > 1
        self.log = self.numeric and min(distinct) > 0 and max(distinct) / min(distinct) >= WIDE
        ordered = sorted(distinct) if self.numeric else distinct
        self.names = [f"{item:.4g}" if type(item) is float else _text(item) for item in ordered]
        self._places = {} if self.numeric else {json.dumps(item): float(i) for i, item in enumerate(ordered)}
        self.ends = (min(map(self.place, ordered)), max(map(self.place, ordered)))
        self.ticks = [self.place(item) for item in ordered]

    def place(self, item: Any) -> float:
        if not self.numeric:
            return self._places[json.dumps(item)]
        return math.log10(item) if self.log else float(item)

    def part(self, item: Any) -> float:
        """The place between the ends, from 0 to 1."""
        low, high = self.ends
        return 0.5 if high == low else (self.place(item) - low) / (high - low)


def _plot_key(axes: Axes, key: str, leaderboard: Leaderboard) -> None:
    trials = [entry.trial for entry in leaderboard.entries]
    scale = _Scale([trial.value(key) for trial in trials])
    if leaderboard.keys:
        points = [(row.values[key], row.mean, row.interval or 0.0) for row in leaderboard.rows]
    else:
        points = [(entry.trial.value(key), entry.objective, 0.0) for entry in leaderboard.entries]
    there = sorted((scale.place(x), y, error) for x, y, error in points if y is not None)
    if there:
        x, y, error = zip(*there, strict=True)
        if len(leaderboard.keys) > 1:
            axes.plot(x, y, "o", markersize=4, alpha=0.5, label="mean")
        else:
            axes.errorbar(x, y, error, fmt="o", markersize=4, capsize=2, elinewidth=0.8, label="mean, 95% CI")
        margin = 0.08 * (max(y) - min(y)) or 0.01
        axes.set_ylim(min(y) - 2 * margin, max(y) + margin)  # intervals of two trials may be wide
        best: dict[float, float] = {}
        choose = min if direction(leaderboard.objective) == "min" else max
        for place, score, _ in there:
            best[place] = choose(score, best.get(place, score))
        axes.plot(list(best), list(best.values()), linewidth=1, alpha=0.7, label="best")
    missing = [scale.place(x) for x, y, _ in points if y is None]
    if missing:
        below = axes.get_xaxis_transform()
        axes.plot(missing, [0.03] * len(missing), "x", color="tab:red", transform=below, label="no result")
    shown = range(len(scale.ticks)) if len(scale.ticks) <= 8 else [0, len(scale.ticks) // 2, len(scale.ticks) - 1]
    axes.set_xticks([scale.ticks[i] for i in shown], [scale.names[i] for i in shown], rotation=30, ha="right")
    axes.set(xlabel=f"{key} (log)" if scale.log else key, ylabel=leaderboard.objective)
    axes.grid(alpha=0.3)


def _plot_parallel(figure: SubFigure, keys: Sequence[str], leaderboard: Leaderboard) -> None:
    rows = [row for row in reversed(leaderboard.rows) if row.mean is not None]  # the best on top
    scales = {key: _Scale([row.values[key] for row in leaderboard.rows]) for key in keys}
    scores = _Scale([row.mean for row in rows])
    axes = figure.subplots()
    columns = range(len(keys) + 1)
    lines = [_line(row, scales, scores) for row in rows]
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
        count = len(scale.ticks)
        for i in range(count) if count <= 8 and scale is not scores else sorted({0, count - 1}):
            low, high = scale.ends
            at = 0.5 if high == low else (scale.ticks[i] - low) / (high - low)
            axes.annotate(scale.names[i], (column, at), xytext=(3, 0), textcoords="offset points", fontsize=8)
    axes.set_xticks(columns, [*keys, leaderboard.objective])
    axes.set_yticks([])
    axes.set(xlim=(-0.1, len(keys) + 0.35), ylim=(-0.05, 1.05))
    axes.spines[:].set_visible(False)


def _line(row: Row, scales: dict[str, _Scale], scores: _Scale) -> list[float]:
    return [*(scale.part(row.values[key]) for key, scale in scales.items()), scores.part(row.mean)]


def _text(item: Any) -> str:
    return item if isinstance(item, str) else json.dumps(item)
