"""A sweep as a picture: the objective against every value that varies, and all of them at once."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure, SubFigure

from trialstack.atomic import replaced
from trialstack.leaderboard import Leaderboard
from trialstack.objective import direction
from trialstack.scale import WIDE, Scale
from trialstack.sweep_index import shown

COLOURS = 6
"""Values of a key, at most, that colours stand for."""

ASIDE = 0.08
"""Distance of colours at the same name, of that between two names."""

NO_RESULT = ("diverged", "failed")
"""Statuses of trials that are marked."""

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
    if several:
        _plot_parallel(parts[1], keys, leaderboard)
    return figure


def _scale(key: str, leaderboard: Leaderboard) -> Scale:
    """The axis of a key: trials without a result do not stretch it."""
    entries = leaderboard.entries
    values = [entry.trial.value(key) for entry in entries if entry.objective is not None]
    others = [entry.trial.value(key) for entry in entries if entry.objective is None and entry.status in NO_RESULT]
    return Scale(values, others) if values else Scale([entry.trial.value(key) for entry in entries])


def _plot_key(axes: Axes, key: str, leaderboard: Leaderboard) -> None:
    """Means with their confidence intervals against a key, in a colour for each value of another one."""
    scale = _scale(key, leaderboard)
    coloured, series = _series(key, leaderboard)
    means: list[float] = []
    for number, (name, points) in enumerate(series.items()):
        aside = 0 if scale.numeric else ASIDE * (number - (len(series) - 1) / 2)
        x, y, errors = zip(
            *sorted((scale.place(item) + aside, mean, error) for item, mean, error in points), strict=True
        )
        joined = scale.numeric and bool(leaderboard.keys) and len(set(x)) == len(x)
        style: dict[str, Any] = {"fmt": "o-" if joined else "o", "label": name if coloured else None}
        axes.errorbar(x, y, errors, markersize=4, linewidth=1, elinewidth=0.6, capsize=2, alpha=0.7, **style)
        means.extend(y)
    if means and min(means) > 0 and max(means) / min(means) >= WIDE and direction(leaderboard.objective) == "min":
        axes.set_yscale("log")
    else:
        low, high = axes.get_ylim()
        axes.set_ylim(max(low, 0.0), high if direction(leaderboard.objective) == "min" else min(high, 1.0))
    lost = {scale.place(entry.trial.value(key)) for entry in leaderboard.entries if entry.status in NO_RESULT}
    if lost:
        on_axis: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "clip_on": False, "zorder": 5}
        axes.plot(sorted(lost), [0.0] * len(lost), "x", color="tab:red", label="diverged or failed", **on_axis)
    if coloured or lost:
        axes.legend(title=coloured, fontsize=7, title_fontsize=7)
    ticks = list(scale.ticks.items())
    places, names = zip(*(ticks if len(ticks) <= 8 else (ticks[0], ticks[len(ticks) // 2], ticks[-1])), strict=True)
    axes.set_xticks(places, names, rotation=30, ha="right")
    of_rows = f"{leaderboard.objective}, mean and 95% interval" if leaderboard.keys else leaderboard.objective
    axes.set(xlabel=scale.named(key), ylabel=of_rows)
    axes.grid(alpha=0.3)


def _series(key: str, leaderboard: Leaderboard) -> tuple[str | None, dict[str, list[tuple[Any, float, float]]]]:
    """Return what colours stand for, and by its values: values of a key, means and half intervals."""
    if not leaderboard.keys:
        there = [entry for entry in leaderboard.entries if entry.objective is not None]
        scores = [(entry.trial.value(key), float(entry.objective or 0), 0.0) for entry in there]
        return None, {"": scores} if scores else {}
    rows = [row for row in leaderboard.rows if row.mean is not None]
    counts = {other: len({json.dumps(row.values[other]) for row in rows}) for other in leaderboard.keys if other != key}
    few = [other for other, count in counts.items() if 1 < count <= COLOURS]
    coloured = min(few, key=lambda other: counts[other], default=None)
    series: dict[str, list[tuple[Any, float, float]]] = {}
    for row in rows:
        assert row.mean is not None
        name = "" if coloured is None else shown(row.values[coloured])
        series.setdefault(name, []).append((row.values[key], row.mean, row.interval or 0.0))
    return coloured, dict(sorted(series.items()))


def _plot_parallel(figure: SubFigure, keys: Sequence[str], leaderboard: Leaderboard) -> None:
    rows = [row for row in reversed(leaderboard.rows) if row.mean is not None]  # the best on top
    scales = {key: _scale(key, leaderboard) for key in keys}
    scores = Scale([row.mean for row in rows])
    axes = figure.subplots()
    columns = range(len(keys) + 1)
    spreads = [SPREAD * (rank / max(len(rows) - 1, 1) - 0.5) for rank in range(len(rows))]
    lines = [
        [
            *(
                scale.part(scale.place(row.values[key])) + (0 if scale.numeric else spread)
                for key, scale in scales.items()
            ),
            _height(scores.place(row.mean), scores, leaderboard),
        ]
        for row, spread in zip(rows, spreads, strict=True)
    ]
    colours = colormaps["viridis"]
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
            height = _height(place, scores, leaderboard) if scale is scores else scale.part(place)
            box: dict[str, Any] = {
                "boxstyle": "square,pad=0.1",
                "facecolor": "white",
                "edgecolor": "none",
                "alpha": 0.8,
            }
            at: dict[str, Any] = {"xytext": (3, 0), "textcoords": "offset points", "va": "center"}
            axes.annotate(name, (column, height), **at, fontsize=8, bbox=box)
    names = [scale.named(key) for key, scale in [*scales.items(), (leaderboard.objective, scores)]]
    axes.set_xticks(columns, names)
    axes.set_yticks([])
    axes.set(xlim=(-0.1, len(keys) + 0.35), ylim=(-0.05, 1.05))
    axes.spines[:].set_visible(False)


def _height(place: float, scores: Scale, leaderboard: Leaderboard) -> float:
    """Where a score is, from 0 to 1: the best one on top."""
    part = scores.part(place)
    return part if direction(leaderboard.objective) == "max" else 1 - part
