"""Whatever file operation a command is killed at, the same command gives what no kill gives."""

import csv
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests import faults

QUICK = (
    "model.hidden=[4]",
    "trainer.limit_train_batches=2",
    "trainer.max_epochs=2",
    "callbacks=none",
)


def left(folder: Path) -> dict[str, Any]:
    """What is in a folder, without times and what depends on them."""
    content: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_dir() or path.name in (
            "said.txt",
            "train.log",
            "train.log.1",
            "hydra.yaml",
            "hparams.yaml",
        ):
            continue
        if path.suffix == ".ckpt":
            state = torch.load(path, weights_only=True)["state_dict"]
            content[name] = {key: value.tolist() for key, value in state.items()}
        elif path.name in ("metrics.csv", "leaderboard.csv"):
            content[name] = [
                row | {"seconds": ""} for row in csv.DictReader(path.read_text().splitlines())
            ]
        elif path.name == "result.json":
            result = json.loads(path.read_text())
            keys = (
                "status",
                "reason",
                "objective",
                "metrics",
                "best_epoch",
                "epochs",
                "engine",
                "overrides",
            )
            content[name] = [result[key] for key in keys]
        elif "tfevents" in path.name:
            events = EventAccumulator(str(path.parent))
            events.Reload()
            content[str(Path(name).parent / "events")] = {
                tag: [point.step for point in events.Scalars(tag)]
                for tag in events.Tags()["scalars"]
            }
        else:
            content[name] = None
    return content


@pytest.fixture
def equals_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Check a folder against that of the command that was not killed."""
    monkeypatch.chdir(tmp_path)
    whole: dict[str, Any] = {}

    def check(folder: Path) -> None:
        if not whole:
            whole.update(left(tmp_path / "whole"))
        found = left(folder)
        assert found.keys() == whole.keys(), folder.name
        for name, content in whole.items():
            assert found[name] == content, (folder.name, name)

    return check


STOP = (
    "callbacks=early_stopping",
    "callbacks.early_stopping.patience=1",
    "optimizer.lr=0.0",
    "trainer.max_epochs=4",
)
SWEEP = ("-m", "sweep=s", "optimizer.lr=0.1,1e30", "seed=1,2", "logger=none")
COMMANDS = {
    "a stacked run": (*QUICK, "hydra.run.dir=a"),
    "an eager run": (*QUICK, "hydra.run.dir=a", "engine=eager", "logger=none"),
    "a run that stops early": (*QUICK, *STOP, "hydra.run.dir=a", "logger=none"),
    "a sweep": (*SWEEP, *QUICK),
    "a sweep of which a trial stops early": (
        "-m",
        "sweep=s",
        *QUICK,
        *STOP,
        "optimizer.lr=0.0,0.1",
        "logger=none",
    ),
}


def some(number: int, config: pytest.Config) -> slice:
    """Points to try: one in 48, others for each command."""
    return slice(None) if config.getoption("every_crash_point") else slice(number, None, 48)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_is_killed_anywhere_gives_the_same_when_it_is_run_again(
    name: str, equals_whole: Callable[[Path], None], pytestconfig: pytest.Config
) -> None:
    otherwise = () if "-m" in COMMANDS[name] else ("resume=a",)
    part = some(3 * list(COMMANDS).index(name), pytestconfig)
    assert faults.every_point("train.py", COMMANDS[name], equals_whole, otherwise, part) >= 1


def test_a_stopped_sweep_can_be_killed_anywhere_while_it_goes_on(
    equals_whole: Callable[[Path], None], pytestconfig: pytest.Config
) -> None:
    Path("stopped").mkdir()
    os.chdir("stopped")
    command = COMMANDS["a sweep"]
    _, makes = faults.run("train.py", command)
    shutil.rmtree("outputs")
    assert faults.run("train.py", command, end_at=len(makes) // 2)[0] == faults.KILLED
    os.chdir("..")
    part = some(5, pytestconfig)
    assert (
        faults.every_point(
            "train.py", command, equals_whole, part=part, before=Path("stopped").absolute()
        )
        >= 1
    )


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("evaluate.py", ["run=outputs/sweeps/s/0"]),
        ("predict.py", ["run=outputs/sweeps/s/0", "index=[0,1]", "output=labels.csv"]),
        ("report.py", ["sweep=s"]),
    ],
)
def test_commands_that_show_can_be_killed_anywhere(
    script: str,
    arguments: list[str],
    trained_sweep: Callable[..., Path],
    equals_whole: Callable[[Path], None],
    pytestconfig: pytest.Config,
) -> None:
    trained_sweep(*COMMANDS["a sweep"])
    Path("trained").mkdir()
    Path("outputs").rename("trained/outputs")

    def check(folder: Path) -> None:
        for half_written in folder.rglob(
            ".*.part"
        ):  # hidden; the sweep or run that goes on there removes it
            shutil.rmtree(half_written) if half_written.is_dir() else half_written.unlink()
        equals_whole(folder)

    part = some(0, pytestconfig)
    assert (
        faults.every_point(script, arguments, check, part=part, before=Path("trained").absolute())
        >= 1
    )
