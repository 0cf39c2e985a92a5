"""The course of a halved sweep or a search as a picture: learning curves up to the rungs, the best
so far, and which parameters matter.
"""

import math
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.figure import SubFigure

from trialstack.core import layout
from trialstack.core.objective import improves
from trialstack.run.metrics_csv import read_rows
from trialstack.run.status import Status
from trialstack.sweep.axis import ScoreScale
from trialstack.sweep.leaderboard import Leaderboard

if TYPE_CHECKING:
    from trialstack.sweep.importance import Searched

MOST = 8
"""Importances that are shown."""


def plot_course(
    figure: SubFigure,
    scores: ScoreScale,
    leaderboard: Leaderboard,
    study: "Searched | None" = None,
) -> None:
    """Plot the objective against epochs, trials that trained to the end in colour, and against
    trials in the order of their folders, with the best one so far; and of a search importances.
    """
    importances = {} if study is None else study.importances
    parts = 3 if importances else 2
    by_epoch, by_trial, *others = figure.subplots(1, parts)
    by_trial.sharey(by_epoch)
    if study is not None and importances:
        _plot_importances(others[0], study)
    rungs = set()
    for entry in leaderboard.entries:
        rows = read_rows(leaderboard.folder / entry.name / layout.METRICS)
        points = [
            (row["epoch"], row[leaderboard.objective])
            for row in rows
            if leaderboard.objective in row
        ]
        if entry.rung is not None and entry.epochs is not None:
            rungs.add(entry.epochs)
        ended = entry.status == Status.COMPLETED
        style: dict[str, Any] = (
            {"linewidth": 1.2, "zorder": 3} if ended else {"color": "0.7", "linewidth": 0.7}
        )
        # a trial of one epoch is a point
        by_epoch.plot(
            [epoch for epoch, _ in points],
            [scores.place(score) for _, score in points],
            marker="." if len(points) == 1 else None,
            **style,
        )
    for rung in rungs:
        by_epoch.axvline(rung, color="black", linewidth=0.8, linestyle=":")
    by_epoch.set_yscale("log" if scores.log else "linear")
    by_epoch.set_ylim(*scores.ends)
    by_epoch.set(xlabel="epoch (dotted: rungs)", ylabel=leaderboard.objective)

    best: float | None = None
    numbers, so_far = [], []
    for number, entry in enumerate(leaderboard.entries, 1):
        score = math.nan if entry.objective is None else entry.objective
        best = score if improves(score, best, leaderboard.objective) else best
        if best is not None:
            numbers.append(number)
            so_far.append(scores.place(best))
    there = [
        (number, scores.place(entry.objective), entry.status == Status.COMPLETED)
        for number, entry in enumerate(leaderboard.entries, 1)
        if entry.objective is not None
    ]
    for ended, colour in ((False, "0.7"), (True, "tab:blue")):
        chosen = [(number, score) for number, score, is_ended in there if is_ended == ended]
        by_trial.plot(
            [number for number, _ in chosen],
            [score for _, score in chosen],
            "o",
            color=colour,
            markersize=4,
            label="trained to the end" if ended else "stopped at a rung",
        )
    by_trial.step(numbers, so_far, where="post", color="tab:orange", label="best so far")
    by_trial.set(xlabel="trial")
    by_trial.legend(fontsize=7, loc="lower right" if scores.higher else "upper right")
    for axes in (by_epoch, by_trial):
        axes.grid(alpha=0.3)


def _plot_importances(axes: Axes, study: "Searched") -> None:
    keys = list(study.importances)[:MOST]
    bars = axes.barh(
        [key.replace(".", ".\n") for key in keys],
        [study.importances[key] for key in keys],
        color="tab:blue",
    )
    axes.bar_label(bars, fmt="%.2f", padding=3, fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    epochs = "epoch" if study.epoch == 1 else "epochs"
    axes.set(xlabel=f"importance after {study.epoch} {epochs}")
