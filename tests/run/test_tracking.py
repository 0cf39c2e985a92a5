"""Loggers side by side, and those of tracking services: a trial has one run there, in which it goes
on.
"""

import csv
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.conftest import Ended
from trialstack.run.history import History
from trialstack.run.status import Status
from trialstack.run.tracking import Tracked, TrackingLogger

Command = Callable[..., Ended]

QUICK = ("model.hidden=[8]", "trainer.limit_train_batches=2", "callbacks=none")
SERVICE = "+logger.x={_target_: tests.run.test_tracking.Service, folder: ${folder}}"


class Service(TrackingLogger):
    """Keeps the steps of a run's epochs, and what it was told besides."""

    runs: ClassVar[dict[str, list[Any]]] = {}

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.tracked = Tracked.read(Path(folder) / "service.json")
        if self.tracked.run is None:
            self.tracked.begin(f"run {len(self.runs)}")
        assert self.tracked.run is not None
        self.told = self.runs.setdefault(self.tracked.run, [])

    @property
    def name(self) -> str:
        return "service"

    @property
    def version(self) -> str | None:
        return self.tracked.run

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.told.append(step if "train/loss" in metrics else sorted(metrics))

    def log_hyperparams(self, params: dict[str, Any], *more: Any, **named: Any) -> None:  # type: ignore[override]
        pass

    def end(self, status: Status, objective: float | None) -> None:
        self.told.append(status.value)


@pytest.fixture(autouse=True)
def _no_runs() -> None:
    Service.runs.clear()


TESTED = ["test/acc", "test/loss"]


def test_a_resumed_run_goes_on_in_its_services_run(command: Command) -> None:
    for arguments in (
        (*QUICK, SERVICE, "trainer.max_epochs=2", "hydra.run.dir=run"),
        ("resume=run", "trainer.max_epochs=3"),
    ):
        ended = command("train.py", *arguments)
        assert ended.code == 0, ended.err
    assert Service.runs == {"run 0": [2, 4, TESTED, "completed", 6, TESTED, "completed"]}


def test_a_service_is_told_how_each_trial_of_a_sweep_has_come_out(command: Command) -> None:
    ended = command(
        "train.py", "-m", "sweep=s", *QUICK, SERVICE, "logger=none", "trainer.max_epochs=2",
        "halving=successive", "halving.rungs=[1]", "optimizer.lr=0.1,0,1e30",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    first, second, third = Service.runs.values()
    assert first == [2, "stopped", 4, TESTED, "completed"]
    assert second == [2, "stopped"]
    assert third[-1] == "diverged"


def test_an_epoch_that_was_logged_before_a_kill_is_not_logged_again(tmp_path: Path) -> None:
    rows = [{"epoch": epoch, "step": 5 * epoch, "train/loss": 1.0} for epoch in (1, 2, 3)]
    History.log([Service(str(tmp_path))], rows[:2])
    History.log([Service(str(tmp_path))], rows[1:])
    assert Service.runs == {"run 0": [5, 10, 15]}


def test_an_epoch_that_a_kill_may_have_lost_is_logged_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Service, "at_once", False)
    rows = [{"epoch": epoch, "step": 5 * epoch, "train/loss": 1.0} for epoch in (1, 2)]
    History.log([Service(str(tmp_path))], rows[:1])
    History.log([Service(str(tmp_path))], rows)
    assert Service.runs == {"run 0": [5, 5, 10]}


def test_a_damaged_file_of_a_service_begins_a_new_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Tracked(tmp_path / "service.json").begin("one")
    assert Tracked.read(tmp_path / "service.json").run == "one"
    (tmp_path / "service.json").write_text('{"run": 1')
    with caplog.at_level(logging.WARNING):
        assert Tracked.read(tmp_path / "service.json").run is None
    assert "the trial begins a new run there" in caplog.text


@pytest.mark.parametrize("package", ["wandb", "mlflow"])
def test_a_logger_whose_package_is_missing_says_what_to_install(
    package: str, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list(sys.modules):
        if name == f"trialstack.run.{package}" or name.partition(".")[0] == package:
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    ended = command("train.py", f"logger=[tensorboard,{package}]")
    assert ended.code == 2, ended.err
    assert f"logger={package} needs" in ended.err
    assert f"pip install 'trialstack[{package}]'" in ended.err
    assert len(ended.err.splitlines()) == 1
    assert not Path("outputs").exists()


def test_loggers_side_by_side_have_each_epoch_once(command: Command) -> None:
    event_files = []
    for arguments in (
        (*QUICK, "logger=[csv,tensorboard]", "trainer.max_epochs=2", "hydra.run.dir=run"),
        ("resume=run", "trainer.max_epochs=3"),
    ):
        ended = command("train.py", *arguments)
        assert ended.code == 0, ended.err
        event_files.append(len(list(Path("run").glob("events.out.tfevents.*"))))
    assert event_files[0] == event_files[1] > 0
    with Path("run/csv/metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows if row["train/loss"]] == ["2", "4", "6"]
    assert len([row for row in rows if row["test/acc"]]) == 1
    with Path("run/metrics.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2", "3"]


def test_a_list_of_loggers_is_one_value_of_a_sweep(command: Command) -> None:
    arguments = ("-m", "sweep=s", *QUICK, "trainer.max_epochs=1", "logger=[csv,none],none")
    ended = command("train.py", *arguments, "seed=1,2")
    assert ended.code == 0, ended.err
    # a logger is no part of what a trial is, so that two equal ones are one
    assert "2 new, 2 the same as another" in ended.out
    assert Path("outputs/sweeps/s/0/csv/metrics.csv").exists()
    assert "logger=[csv,none]" in Path("outputs/sweeps/s/0/.hydra/overrides.yaml").read_text()
    again = command("train.py", *arguments, "seed=1,2,3")
    assert again.code == 0, again.err
    assert "1 new" in again.out
