"""The best accuracy so far against seconds, of all searches."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray


def best_by(run: dict[str, Any], seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the best accuracy that a search had seen by each of these times; nan before the first
    one.
    """
    at, accuracies = np.array(run["epochs"]).T
    best = np.concatenate([[np.nan], np.fmax.accumulate(accuracies)])
    found: NDArray[np.float64] = best[np.searchsorted(at, seconds, side="right")]
    return found


def draw(runs: list[dict[str, Any]], file: Path) -> None:
    """Draw medians over the seeds, and the range."""
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    axes = figure.subplots()
    for name in dict.fromkeys(run["name"] for run in runs):
        own = [run for run in runs if run["name"] == name]
        last = float(np.median([run["seconds"] for run in own]))
        seconds = np.arange(0.0, last, 0.25)
        curves = np.stack([best_by(run, seconds) for run in own])
        seen = np.isfinite(curves).all(axis=0)
        (line,) = axes.plot(seconds[seen], np.median(curves[:, seen], axis=0), label=name)
        axes.fill_between(
            seconds[seen],
            curves[:, seen].min(axis=0),
            curves[:, seen].max(axis=0),
            color=line.get_color(),
            alpha=0.12,
            linewidth=0,
        )
    axes.set(
        xlabel="seconds since the command began", ylabel="best val/acc so far", ylim=(0.86, 0.905)
    )
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(file, dpi=120)
