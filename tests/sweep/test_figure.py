"""sweep.png: where values stand, and that nothing hides anything else."""

import json
import math
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.text import Text

from trialstack.sweep.axis import LONGEST, Scale, ScoreScale
from trialstack.sweep.figure import sweep_figure
from trialstack.sweep.index import Indexed, SweepIndex
from trialstack.sweep.leaderboard import Leaderboard


def figure(
    folder: Path, trials: Sequence[tuple[dict[str, Any], float]], objective: str = "val/acc"
) -> Figure:
    """Return the picture of trials that completed, each with the values that vary and its
    objective.
    """
    index = SweepIndex(folder)
    index.objective = objective
    for name, (values, score) in enumerate(trials):
        index.trials[str(name)] = Indexed(
            {"seed": 1, "objective": objective} | values, {}, list(values)
        )
        (folder / str(name)).mkdir()
        (folder / str(name) / "result.json").write_text(
            json.dumps({"status": "completed", "objective": score})
        )
    index.write()
    return sweep_figure(Leaderboard(folder))


GOOD = (0.88, 0.885, 0.89, 0.895, 0.9)


@pytest.mark.parametrize(
    ("objective", "scores", "bad"),
    [
        ("val/acc", GOOD, [0.1]),
        ("val/acc", GOOD, [0.0, 0.1]),
        ("val/loss", GOOD, [1e20]),
        ("val/loss", GOOD, [1e20, 1e30, 3e38]),
    ],
)
def test_bad_scores_far_off_stand_at_the_end_and_do_not_flatten_the_rest(
    objective: str, scores: Sequence[float], bad: list[float]
) -> None:
    scale = ScoreScale([*scores, *bad], [], objective)
    assert all(scale.off(score) for score in bad)
    assert all(scale.height(score) == 0 for score in bad)
    heights = [scale.height(score) for score in scores]
    assert max(heights) - min(heights) > 0.8


@pytest.mark.parametrize(
    ("objective", "scores"),
    [
        ("val/acc", [0.9, 0.1]),
        ("val/acc", [0.9]),
        ("val/acc", [0.5, 0.5, 0.5]),
        ("val/acc", [0.9, 0.85, 0.6, 0.4, 0.1]),
        ("val/loss", [1e-4, 1e-3, 1e-2, 0.1, 1.0]),
        ("val/loss", [0.0, 0.1, 0.2]),
    ],
)
def test_scores_that_are_not_far_off_are_all_on_the_axis(
    objective: str, scores: list[float]
) -> None:
    scale = ScoreScale(scores, [], objective)
    assert not any(scale.off(score) for score in scores)
    assert all(0 < scale.height(score) < 1 for score in scores)


def test_intervals_are_whole_within_what_a_score_can_be() -> None:
    assert ScoreScale([0.9, 0.8], [0.7, 1.2], "val/acc").ends == pytest.approx(
        (0.7 - 0.018, 1.0 + 0.018)
    )


def test_names_on_an_axis_are_apart_and_short() -> None:
    scale = Scale([0.01, 0.0101, 0.0102, 0.1, 1.0])
    assert list(scale.ticks.values()) == ["0.01", "0.1", "1"]
    [first, *_] = Scale(["x" * 100, "y"]).ticks.values()
    assert len(first) <= LONGEST


@pytest.mark.parametrize("keys", [1, 2, 5])
@pytest.mark.parametrize("objective", ["val/acc", "val/loss"])
def test_names_are_not_written_over_each_other(tmp_path: Path, keys: int, objective: str) -> None:
    names = ["xavier_uniform", "a.module.of.my.own.with_a_long_name.initializer"]
    rates = (0.009, 0.01, 0.011, 0.1, 10.0)
    all_values = [
        {
            "optimizer.lr": lr,
            "model.init": names[i % 2],
            "optimizer.weight_decay": i / 1e4,
            "a.b": i,
            "a.long.key": [i],
        }
        for i in range(3)
        for lr in rates
    ]
    bad = 0.1 if objective == "val/acc" else 1e20
    trials = [
        (dict([*values.items()][:keys]), bad if values["optimizer.lr"] == 10 else 0.8 + i / 1000)
        for i, values in enumerate(all_values if keys > 1 else all_values[: len(rates)])
    ]
    drawn = figure(tmp_path, trials, objective)
    FigureCanvasAgg(drawn).draw()
    for axes in drawn.axes:
        at_ticks = [text for text in axes.get_xticklabels() if text.get_text()]
        of_lines = [text for text in axes.texts if text.get_text()]
        for texts in (at_ticks, of_lines):
            for one, other in combinations(texts, 2):
                assert not _overlap(one, other), f"{one.get_text()} and {other.get_text()}"


def _overlap(one: Text, other: Text) -> bool:
    """Whether two texts that are turned alike overlap: the distance across their lines is less than
    their height.
    """
    if one.get_rotation():
        left, right = (
            text.get_transform().transform(text.get_position())[0] for text in (one, other)
        )
        across = abs((right - left) * math.sin(math.radians(one.get_rotation())))
        return bool(across < one.get_fontsize())
    return bool(one.get_window_extent().overlaps(other.get_window_extent()))


def test_the_best_row_is_the_darkest_line(tmp_path: Path) -> None:
    trials = [
        ({"optimizer.lr": lr, "model.dropout": lr}, score)
        for lr, score in ((0.1, 0.9), (0.2, 0.8), (0.3, 0.7))
    ]
    drawn = figure(tmp_path, trials)
    [lines] = drawn.axes[-1].collections
    assert isinstance(lines, LineCollection)
    brightness = np.asarray(lines.get_colors())[:, :3] @ [0.3, 0.6, 0.1]
    assert brightness[-1] == min(brightness) < 0.3
    assert max(brightness) < 0.8


def test_what_the_axis_shows_is_written_in_full(tmp_path: Path) -> None:
    seeds = {0.1: 4, 0.2: 2}  # of which means have intervals and ranges
    trials = [
        ({"optimizer.lr": lr, "seed": seed}, 0.8 + seed / 100)
        for lr, count in seeds.items()
        for seed in range(count)
    ]
    drawn = figure(tmp_path, trials)
    FigureCanvasAgg(drawn).draw()
    name = drawn.axes[0].yaxis.get_label()
    assert "interval or range of two" in name.get_text()
    shown, whole = name.get_window_extent(), drawn.bbox
    assert whole.y0 <= shown.y0 < shown.y1 <= whole.y1
    assert whole.x0 <= shown.x0
