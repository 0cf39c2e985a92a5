"""What a leaderboard shows of several seeds."""

import csv
import json
from pathlib import Path

import pytest
from rich.console import Console

from trialstack.core.objective import rounded
from trialstack.sweep.index import Indexed, SweepIndex
from trialstack.sweep.leaderboard import Entry, Leaderboard


def board(folder: Path, *scores: float, objective: str = "val/acc") -> tuple[str, dict[str, str]]:
    """Return the table of a sweep of as many seeds, and the row of its CSV."""
    index = SweepIndex(folder)
    index.objective = objective
    for seed, score in enumerate(scores):
        index.trials[str(seed)] = Indexed({"seed": seed, "objective": objective}, {}, ["seed"])
        (folder / str(seed)).mkdir()
        (folder / str(seed) / "result.json").write_text(
            json.dumps({"status": "completed", "objective": score})
        )
    index.write()
    leaderboard = Leaderboard(folder)
    leaderboard.write()
    console = Console(width=120)
    with console.capture() as capture:
        console.print(leaderboard.table())
    [row] = csv.DictReader((folder / "leaderboard.csv").read_text().splitlines())
    return capture.get(), row


def test_of_two_seeds_the_range_is_shown(tmp_path: Path) -> None:
    table, row = board(tmp_path, 0.7133, 0.6733)
    assert "0.6733 to 0.7133" in table
    assert "±" not in table + (tmp_path / "leaderboard.md").read_text()
    assert float(row["val/acc"]) == pytest.approx(0.6933)
    assert (row["ci95"], row["n"]) == ("", "2")


def test_of_three_seeds_the_interval_is_shown(tmp_path: Path) -> None:
    table, row = board(tmp_path, 0.9, 0.8, 0.7)
    assert "0.8000 ± 0.2484" in table
    assert float(row["ci95"]) == pytest.approx(4.302652729911275 * 0.1 / 3**0.5)


def test_of_one_seed_the_score_is_shown(tmp_path: Path) -> None:
    table, row = board(tmp_path, 1.5e20, objective="val/loss")
    assert " 1.5e+20 " in table
    assert (row["ci95"], row["n"]) == ("", "1")


@pytest.mark.parametrize(
    ("score", "text"),
    [
        (0.12345, "0.1235"),
        (9.99999, "10.0000"),
        (12.3456, "12.346"),
        (9999.6, "1.0e+04"),
        (3e38, "3.0e+38"),
    ],
)
def test_scores_are_short(score: float, text: str) -> None:
    assert rounded(score) == text
    assert len(text) <= 7


def test_a_trial_has_begun_once_its_folder_is_there(tmp_path: Path) -> None:
    (tmp_path / "0/.hydra").mkdir(parents=True)
    trial = Indexed({"seed": 1}, {}, [])
    statuses = [Entry.read(tmp_path, name, trial, "val/acc").status for name in ("0", "1")]
    assert statuses == ["unfinished", "waiting"]
