"""`logger=wandb`, with the real package and without a network."""

import json
import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Ended

wandb = pytest.importorskip("wandb")
pytestmark = pytest.mark.filterwarnings("default")

Command = Callable[..., Ended]

QUICK = (
    "model.hidden=[8]", "trainer.limit_train_batches=2", "callbacks=none", "logger=wandb",
    "trainer.max_epochs=2",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.delenv("WANDB_PROJECT", raising=False)


def records(file: Path) -> list[Any]:
    """What an offline run's file has: after its header, records in LevelDB's log format."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, at, parts, found = file.read_bytes(), 7, b"", []
    while at + 7 <= len(content):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", content, at)
        if kind == 0:
            break
        parts += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or its last part
            found.append(Record.FromString(parts))
            parts = b""
    return found


def offline_runs(folder: Path) -> list[list[Any]]:
    return [records(file) for file in sorted(folder.glob("wandb/offline-run-*/*.wandb"))]


def values(items: Iterable[Any]) -> dict[str, Any]:
    return {item.key or item.nested_key[0]: json.loads(item.value_json) for item in items}


def epochs(run: list[Any]) -> list[int]:
    """The optimizer steps of the epochs in a run's file."""
    rows = [values(record.history.item) for record in run if record.HasField("history")]
    return [row["trainer/global_step"] for row in rows if "train/loss" in row]


def summary(run: list[Any]) -> dict[str, Any]:
    return values(item for record in run for item in record.summary.update)


def config(run: list[Any]) -> dict[str, Any]:
    parts = (part for record in run for part in (record.run.config, record.config))
    return values(item for part in parts for item in part.update)


def begun(run: list[Any]) -> Any:
    return next(record.run for record in run if record.HasField("run"))


def exit_code(run: list[Any]) -> int:
    return next(int(record.exit.exit_code) for record in run if record.HasField("exit"))


def test_a_trial_of_a_sweep_has_a_run_in_its_group(command: Command) -> None:
    ended = command("train.py", "-m", "sweep=s", *QUICK, "optimizer.lr=0.1,1e30")
    assert ended.code == 0, ended.err
    assert wandb.run is None
    [learned], [diverged] = (offline_runs(Path(f"outputs/sweeps/s/{i}")) for i in range(2))
    assert begun(learned).display_name == "0"
    assert begun(learned).run_group == "s"
    assert begun(learned).project == "trialstack"
    assert config(learned)["optimizer"]["lr"] == 0.1
    assert epochs(learned) == [2, 4]
    told = summary(learned)
    result = json.loads(Path("outputs/sweeps/s/0/result.json").read_text())
    assert told["status"] == "completed"
    assert told["objective"] == result["objective"]
    assert told["test/acc"] == result["metrics"]["test/acc"]
    assert exit_code(learned) == 0
    assert summary(diverged)["status"] == "diverged"
    assert exit_code(diverged) == 1


def test_a_resumed_trial_goes_on_in_the_same_run(command: Command) -> None:
    for arguments in ((*QUICK, "hydra.run.dir=run"), ("resume=run", "trainer.max_epochs=3")):
        ended = command("train.py", *arguments)
        assert ended.code == 0, ended.err
    sessions = offline_runs(Path("run"))
    assert len(sessions) == 2
    assert len({begun(session).run_id for session in sessions}) == 1
    assert sorted(map(epochs, sessions)) == [[2, 4], [6]]
