"""`sweep(...)`: what `train.py -m` does, from Python."""

import csv
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig

from tests.conftest import ROOT, Ended
from trialstack.core.errors import Interrupted, TrialsFailed, UserError
from trialstack.run.recorder import Recorder
from trialstack.run.status import Status
from trialstack.sweeps import sweep

SMALL = ("model.hidden=[8]", "trainer.max_epochs=2", "logger=none")


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_command_and_the_function_go_on_with_each_others_sweeps(
    command: Callable[..., Ended], tmp_path: Path
) -> None:
    swept = sweep(*SMALL, "optimizer.lr=0.1,0.01", "seed=1,2", sweep="lr")
    assert swept.folder == tmp_path / "outputs/sweeps/lr"
    assert [result.folder for result in swept.results] == [swept.folder / str(i) for i in range(4)]
    assert [result.stack_size for result in swept.results] == [4] * 4
    ended = command("train.py", "-m", *SMALL, "optimizer.lr=0.1,0.01", "seed=1,2,3", "sweep=lr")
    assert "4 kept (completed), 2 new" in ended.out
    again = sweep(*SMALL, "optimizer.lr=0.01", "seed=3,2", sweep="lr")
    assert [result.folder.name for result in again.results] == ["5", "3"]
    assert again.best is not None
    assert again.best.objective == max(entry.objective or 0 for entry in again.leaderboard.entries)


def test_the_leaderboard_is_a_dataframe(monkeypatch: pytest.MonkeyPatch) -> None:
    swept = sweep(*SMALL, "model.dropout=0.5,0.0", "seed=1,2", sweep="d")
    pytest.importorskip("pandas")
    frame = swept.dataframe()
    with (swept.folder / "leaderboard.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert ["rank", *frame.columns] == list(rows[0])
    assert list(frame.index) == [1, 2]
    assert list(frame["model.dropout"]) == [float(row["model.dropout"]) for row in rows]
    assert list(frame["val/acc"]) == [float(row["val/acc"]) for row in rows]
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UserError, match=r"needs pandas; pip install 'trialstack\[notebook\]'"):
        swept.dataframe()


def test_trials_that_fail_say_so_unless_the_sweep_is_to_stop_there() -> None:
    models = "trialstack.models.MLP,tests.sweep.test_sweeps.Failing"
    failing = (*SMALL, f"model._target_={models}")
    with pytest.raises(TrialsFailed, match=r"`python train.py -m .* sweep=f` continues"):
        sweep(*failing, "on_error=stop", sweep="f")
    assert [result.status for result in sweep(*failing, sweep="f").results] == [
        Status.COMPLETED,
        Status.FAILED,
    ]


def test_what_is_interrupted_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "on_train_epoch_end", interrupt)
        with pytest.raises(Interrupted, match=r"`python train.py -m .* sweep=i` continues"):
            sweep(*SMALL, "seed=1,2", sweep="i")
    assert [result.epochs for result in sweep(*SMALL, "seed=1,2", sweep="i").results] == [2, 2]


def interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def test_a_program_finds_hydra_logging_and_arguments_as_it_left_them(tmp_path: Path) -> None:
    handler = logging.FileHandler(tmp_path / "program.log", mode="w")
    root, package = logging.getLogger(), logging.getLogger("trialstack")
    root.addHandler(handler)
    level = root.level
    root.setLevel(logging.INFO)
    before = root.handlers[:], root.level, package.level, sys.argv
    try:
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            mine: Any = compose("train", return_hydra_config=True)
            HydraConfig.instance().cfg = mine
            sweep(*SMALL, "seed=1,2", sweep="p")
            with pytest.raises(UserError, match="seed must be"):
                sweep(*SMALL, "seed=-1,2", sweep="q")
            assert HydraConfig.instance().cfg is mine
            assert compose("report", ["sweep=x"]).sweep == "x"
        assert (root.handlers, root.level, package.level, sys.argv) == before
        root.warning("the program goes on")
    finally:
        HydraConfig.instance().cfg = None
        root.removeHandler(handler)
        root.setLevel(level)
        handler.close()
    said = (tmp_path / "program.log").read_text()
    assert "sweep of 2 trials" in said
    assert "the program goes on" in said
    assert "one of 2 trials in a stack" not in said


def test_launchers_that_have_no_leaderboard_are_refused() -> None:
    with pytest.raises(UserError, match=r"hydra/launcher must be one of stacked, .*, got basic"):
        sweep(*SMALL, "hydra/launcher=basic", "seed=1,2", sweep="b")
    assert not Path("outputs").exists()
