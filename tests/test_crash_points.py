"""Whatever file operation a command is killed at, the same command gives what no kill gives."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests import faults

QUICK = ("model.hidden=[4]", "trainer.limit_train_batches=2", "trainer.max_epochs=2", "callbacks=none")


def left(folder: Path) -> dict[str, Any]:
    """What is in a folder, without times and what depends on them."""
    content: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_dir() or path.name in ("said.txt", "train.log", "train.log.1", "hydra.yaml", "hparams.yaml"):
            continue
        if path.suffix == ".ckpt":
            state = torch.load(path, weights_only=True)["state_dict"]
            content[name] = {key: value.tolist() for key, value in state.items()}
        elif path.name in ("metrics.csv", "leaderboard.csv"):
            content[name] = [row | {"seconds": ""} for row in csv.DictReader(path.read_text().splitlines())]
        elif path.name == "result.json":
            result = json.loads(path.read_text())
            keys = ("status", "reason", "objective", "metrics", "best_epoch", "epochs", "engine", "overrides")
            content[name] = [result[key] for key in keys]
        elif "tfevents" in path.name:
            events = EventAccumulator(str(path.parent))
            events.Reload()
            content[str(Path(name).parent / "events")] = {
                tag: [point.step for point in events.Scalars(tag)] for tag in events.Tags()["scalars"]
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


STOP = ("callbacks=early_stopping", "callbacks.early_stopping.patience=1", "optimizer.lr=0.0", "trainer.max_epochs=4")
SWEEP = ("-m", "sweep=s", "optimizer.lr=0.1,1e30", "seed=1,2", "logger=none")
COMMANDS = {
    "a stacked run": (*QUICK, "hydra.run.dir=a"),
    "an eager run": (*QUICK, "hydra.run.dir=a", "engine=eager", "logger=none"),
    "a run that stops early": (*QUICK, *STOP, "hydra.run.dir=a", "logger=none"),
    "a sweep": (*SWEEP, *QUICK),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_is_killed_anywhere_gives_the_same_when_it_is_run_again(
    name: str, equals_whole: Callable[[Path], None], pytestconfig: pytest.Config
) -> None:
    otherwise = () if "-m" in COMMANDS[name] else ("resume=a",)
    some = slice(None) if pytestconfig.getoption("every_crash_point") else slice(list(COMMANDS).index(name), None, 8)
    assert faults.every_point("train.py", COMMANDS[name], equals_whole, otherwise, some) > 4
