"""A sweep as a picture: the objective against every value that varies, and all of them at once."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure, SubFigure

from trialstack.core import layout
from trialstack.core.atomic_files import replaced
from trialstack.core.identity import shown
from trialstack.core.objective import rounded
from trialstack.run.status import Status
from trialstack.sweep.axis import Scale, ScoreScale, off_scale
from trialstack.sweep.course import plot_course
from trialstack.sweep.leaderboard import Leaderboard

if TYPE_CHECKING:
    from trialstack.sweep.importance import Searched

COLOURS = 6
"""Values of a key, at most, that colours stand for."""

ASIDE = 0.08
"""Distance of colours at the same name, of that between two names."""

JOINED = 16
"""Points of a series, at most, that are joined by lines, if they differ in nothing else: more are
rather a cloud.
"""

NO_RESULT = (Status.DIVERGED, Status.FAILED)
"""Statuses of trials that are marked."""

PALEST = 0.15
"""Where the worst score is on the colour map, whose beginning is too pale to be seen."""

SPREAD = 0.06
"""Width of all lines together where they go through the same name, so that none hides another."""


def save_figure(leaderboard: Leaderboard, path: Path) -> None:
    """Write the picture as PNG."""
    with replaced(path) as temporary:
        sweep_figure(leaderboard).savefig(temporary, format="png", dpi=120)


def sweep_figure(leaderboard: Leaderboard) -> Figure:
    """Plot the objective against each key that varies; of several, also parallel coordinates, a
    line a row; and of a halved sweep or a search its course.
    """
    keys = leaderboard.keys or ["seed"]
    study = _searched(leaderboard.folder)
    scales = {key: _scale(key, leaderboard, study) for key in keys}
    several = len(keys) > 1 and leaderboard.best is not None
    columns = min(len(keys), 3)
    rows = -(-len(keys) // columns)
    has_course = leaderboard.is_halved or study is not None
    heights = [3.6 * rows, *([3.6] if several else []), *([3.6] if has_course else [])]
    figure = Figure(figsize=(max(6.5, 4.5 * columns), sum(heights)), layout="constrained")
    parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False).ravel()
    grid = parts[0].subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for axes in grid[len(keys) :]:
        axes.axis("off")
    scores = _score_scale(leaderboard)
    for key, axes in zip(keys, grid, strict=False):
        _plot_key(axes, key, scales[key], scores, leaderboard)
    if several and scores is not None:
        _plot_parallel(parts[1], scales, scores, leaderboard)
    if has_course and scores is not None:
        plot_course(parts[-1], scores, leaderboard, study)
    return figure


def _searched(folder: Path) -> "Searched | None":
    if not (folder / layout.STUDY).exists():
        return None
    try:
        from trialstack.sweep.importance import searched
    except ImportError:  # of Optuna, without which a sweep can be looked at
        return None
    return searched(folder)


def _scale(key: str, leaderboard: Leaderboard, study: "Searched | None") -> Scale:
    """The axis of a key: trials without a result do not stretch it."""
    log = None if study is None else study.log.get(key)
    entries = leaderboard.entries
    values = [entry.trial.value(key) for entry in entries if entry.objective is not None]
    others = [
        entry.trial.value(key)
        for entry in entries
        if entry.objective is None and entry.status in NO_RESULT
    ]
    if not values:
        return Scale([entry.trial.value(key) for entry in entries], log=log)
    return Scale(values, others, log)


def _score_scale(leaderboard: Leaderboard) -> ScoreScale | None:
    """The axis of the objective, if there is any."""
    _, series = _series((leaderboard.keys or ["seed"])[0], leaderboard)
    points = [point for points in series.values() for point in points]
    ends = [end for _, _, *ends in points for end in ends]
    return (
        ScoreScale([mean for _, mean, *_ in points], ends, leaderboard.objective)
        if points
        else None
    )


def _plot_key(
    axes: Axes, key: str, scale: Scale, scores: ScoreScale | None, leaderboard: Leaderboard
) -> None:
    """The objective against a key."""
    coloured = None
    if scores is None:
        axes.set_yticks([])
    else:
        coloured = _plot_scores(axes, key, scale, scores, leaderboard)
    lost = {
        scale.place(entry.trial.value(key))
        for entry in leaderboard.entries
        if entry.status in NO_RESULT
    }
    if lost:
        on_axis: dict[str, Any] = {
            "transform": axes.get_xaxis_transform(),
            "clip_on": False,
            "zorder": 5,
        }
        axes.plot(
            sorted(lost),
            [0.0] * len(lost),
            "x",
            color="tab:red",
            label="diverged or failed",
            **on_axis,
        )
    if axes.get_legend_handles_labels()[1]:
        axes.legend(title=coloured, fontsize=7, title_fontsize=7)
    axes.set_xticks([*scale.ticks], [*scale.ticks.values()], rotation=30, ha="right")
    axes.set(xlabel=scale.named(key), ylabel=_named(leaderboard))
    axes.grid(alpha=0.3)


def _plot_scores(
    axes: Axes, key: str, scale: Scale, scores: ScoreScale, leaderboard: Leaderboard
) -> str | None:
    """Means with what is shown around them, in a colour for each value of another key, which is
    returned.
    """
    axes.set_yscale("log" if scores.log else "linear")
    axes.set_ylim(*scores.ends)
    coloured, series = _series(key, leaderboard)
    others = [other for other in leaderboard.keys if other not in (key, coloured)]
    all_else_equal = bool(leaderboard.keys) and all(
        len({json.dumps(row.values[other]) for row in leaderboard.rows}) == 1 for other in others
    )
    off: list[tuple[float, float]] = []
    for number, (name, points) in enumerate(series.items()):
        aside = 0 if scale.numeric else ASIDE * (number - (len(series) - 1) / 2)
        placed = sorted((scale.place(item) + aside, *of_item) for item, *of_item in points)
        x = [place for place, *_ in placed]
        y = [tuple(map(scores.place, of_place)) for _, *of_place in placed]
        errors = zip(*((mean - low, high - mean) for mean, low, high in y), strict=True)
        joined = scale.numeric and all_else_equal and len(set(x)) == len(x) and len(x) <= JOINED
        style: dict[str, Any] = {
            "fmt": "o-" if joined else "o",
            "label": name if coloured else None,
        }
        small: dict[str, Any] = {
            "markersize": 4,
            "linewidth": 1,
            "elinewidth": 0.6,
            "capsize": 2,
            "alpha": 0.7,
        }
        axes.errorbar(x, [mean for mean, _, _ in y], [*errors], **small, **style)
        off += [(place, mean) for place, mean, *_ in placed if scores.off(mean)]
    if off:
        places, means = zip(*off, strict=True)
        at_end: dict[str, Any] = {
            "clip_on": False,
            "zorder": 4,
            "color": "black",
            "label": off_scale(means),
        }
        axes.plot(places, [*map(scores.place, means)], "v" if scores.higher else "^", **at_end)
    return coloured


def _named(leaderboard: Leaderboard) -> str:
    """The objective, and what is shown around its means."""
    intervals = any(row.interval is not None for row in leaderboard.rows)
    ranges = any(row.interval is None and row.extent is not None for row in leaderboard.rows)
    around = " or ".join(["95% interval"] * intervals + ["range of two"] * ranges)
    return (
        f"{leaderboard.objective}\nmean and {around}"
        if leaderboard.keys and around
        else leaderboard.objective
    )


def _series(
    key: str, leaderboard: Leaderboard
) -> tuple[str | None, dict[str, list[tuple[Any, float, float, float]]]]:
    """Return what colours stand for, and by its values: values of a key, means, and ends of what is
    around them.
    """
    if not leaderboard.keys:
        there = [(entry.trial.value(key), entry.objective) for entry in leaderboard.entries]
        scores = [(item, score, score, score) for item, score in there if score is not None]
        return None, {"": scores} if scores else {}
    rows = [row for row in leaderboard.rows if row.mean is not None]
    counts = {
        other: len({json.dumps(row.values[other]) for row in rows})
        for other in leaderboard.keys
        if other != key
    }
    few = [other for other, count in counts.items() if 1 < count <= COLOURS]
    coloured = min(few, key=lambda other: counts[other], default=None)
    series: dict[str, list[tuple[Any, float, float, float]]] = {}
    for row in rows:
        assert row.mean is not None
        name = "" if coloured is None else shown(row.values[coloured])
        series.setdefault(name, []).append(
            (row.values[key], row.mean, *(row.extent or (row.mean, row.mean)))
        )
    return coloured, dict(sorted(series.items()))


def _plot_parallel(
    figure: SubFigure, scales: Mapping[str, Scale], scores: ScoreScale, leaderboard: Leaderboard
) -> None:
    rows = [row for row in reversed(leaderboard.rows) if row.mean is not None]  # the best on top
    means = [row.mean for row in rows if row.mean is not None]
    axes = figure.subplots()
    columns = range(len(scales) + 1)
    spreads = [SPREAD * (rank / max(len(rows) - 1, 1) - 0.5) for rank in range(len(rows))]
    lines = [
        [
            *(
                scale.part(scale.place(row.values[key])) + (0 if scale.numeric else spread)
                for key, scale in scales.items()
            ),
            scores.height(mean),
        ]
        for row, mean, spread in zip(rows, means, spreads, strict=True)
    ]
    colours = colormaps["viridis_r"]  # the best is dark, and stands out from white
    axes.add_collection(
        LineCollection(
            [list(zip(columns, line, strict=True)) for line in lines],
            colors=[colours(PALEST + (1 - PALEST) * line[-1] / lines[-1][-1]) for line in lines],
            linewidths=[2.5 if row is leaderboard.rows[0] else 1 for row in rows],
            alpha=0.7,
        )
    )
    off = [mean for mean in means if scores.off(mean)]
    near = [mean for mean in means if not scores.off(mean)]
    of_scores = {scores.height(mean): rounded(mean) for mean in (near[-1], near[0])}
    of_scores |= {scores.height(off[0]): off_scale(off)} if off else {}
    names = [
        {scale.part(place): name for place, name in scale.ticks.items()}
        for scale in scales.values()
    ]
    for column, ticks in zip(columns, [*names, of_scores], strict=True):
        axes.axvline(column, color="black", linewidth=0.8)
        for height, name in ticks.items():
            box = {
                "boxstyle": "square,pad=0.1",
                "facecolor": "white",
                "edgecolor": "none",
                "alpha": 0.8,
            }
            at: dict[str, Any] = {
                "xytext": (3, 0),
                "textcoords": "offset points",
                "va": "center",
                "bbox": box,
            }
            axes.annotate(name, (column, height), fontsize=8, **at)
    keys_of_axes = [*(scale.named(key) for key, scale in scales.items()), leaderboard.objective]
    axes.set_xticks(columns, [key.replace(".", ".\n") for key in keys_of_axes])
    axes.set_yticks([])
    axes.set(xlim=(-0.1, len(scales) + 0.35), ylim=(-0.05, 1.05))
    axes.spines[:].set_visible(False)
