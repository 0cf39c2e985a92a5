"""The benchmark as it is run, on few random images and with few rivals."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.report import paired, searches_section
from benchmarks.search.figure import best_by
from benchmarks.task import TASKS
from tests.forked import Forked


def test_the_articles_arithmetic() -> None:
    assert TASKS["mlp300"].flop == 2 * (266_200 + 266_200 + 31_000) * 55_000
    assert TASKS["mlp128"].flop == 2 * (101_632 + 101_632 + 1_280) * 55_000


def test_ratios_pair_the_epochs_of_a_round() -> None:
    assert paired([2.0, 4.0, 9.0], [1.0, 2.0, 3.0]) == 2.0


def test_a_device_is_checked(fork: Callable[..., Forked], tmp_path: Path) -> None:
    checks = [
        "environment",
        "replayed is called",
        "twice the same",
        "alone is in a stack",
        "resumed is whole",
        "out of memory",
    ]
    options = ("--device", "cpu", "--output", str(tmp_path), "--only", *checks)
    running = fork("benchmarks/gpu/__main__.py", *options)
    said = running.communicate()
    assert running.returncode == 0, said
    result = json.loads((tmp_path / "raw/gpu-cpu.json").read_text())
    assert [check["name"] for check in result["checks"]] == checks
    assert [check["passed"] for check in result["checks"]] == [True] * 5 + [None]
    assert "| out of memory |  |" in (tmp_path / "RESULTS.md").read_text()


def test_it_runs_on_random_images_and_reports_raw_numbers(
    fork: Callable[..., Forked], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = (
        "--task",
        "mlp300",
        "--samples",
        "5320",
        "--epochs",
        "1",
        "--warmup",
        "0",
        "--rivals",
        "stacked engine",
        "--output",
        str(tmp_path),
    )
    monkeypatch.delenv("DATA_ROOT", raising=False)
    running = fork("benchmarks/bench.py", *options)
    said = running.communicate()
    assert running.returncode == 0, said
    [file] = (tmp_path / "raw").iterdir()
    result = json.loads(file.read_text())
    assert {rival["name"] for rival in result["rivals"]} == {"stacked engine"}
    assert all(len(rival["seconds"]) == 1 and rival["peak_gib"] > 0 for rival in result["rivals"])
    assert result["data"] == "random images"
    assert {"torch", "lightning"} <= set(result["versions"])
    report = (tmp_path / "RESULTS.md").read_text()
    assert "| stacked engine |" in report
    assert "| 1.00 |" in report
    before, after = result["others"]
    assert f"CPU cores, of which others held {before} before and {after} after;" in report


def test_searches_are_compared_by_when_ours_has_a_rivals_accuracy() -> None:
    ours = {"name": "trialstack", "seed": 1, "seconds": 20.0, "epochs": [[5, 0.8], [10, 0.9]]}
    worse = {"name": "worse", "seed": 1, "seconds": 40.0, "epochs": [[3, 0.7], [30, 0.85]]}
    better = {"name": "better", "seed": 1, "seconds": 40.0, "epochs": [[30, 0.95]]}
    result = {
        "searches": [ours, worse, better], "versions": {}, "hardware": "", "date": "", "git": ""
    }  # fmt: skip
    text = searches_section(result)
    assert "| worse | 1 | 40 | 2 | 0.8500 | 0.8500 to 0.8500 | 10 | 0.25 |" in text
    assert "| better | 1 | 40 | 1 | 0.9500 | 0.9500 to 0.9500 | never |  |" in text
    best = best_by(worse, np.array([1.0, 3.0, 29.0, 30.0]))
    np.testing.assert_array_equal(best, [np.nan, 0.7, 0.7, 0.85])
