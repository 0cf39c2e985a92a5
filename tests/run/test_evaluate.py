"""What `evaluate.py` leaves in a run folder, and how long it stays."""

import errno
import json
import os
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import Ended
from trialstack.run.evaluation import Evaluation
from trialstack.run.tables import WIDTH, evaluation_tables

Command = Callable[..., Ended]
FILES = ("evaluation.json", "evaluation.png")
OF_VAL = ("evaluation-val.json", "evaluation-val.png")


@pytest.fixture
def run(trained_run: Callable[..., Path]) -> Path:
    return trained_run("model.hidden=[8]", "trainer.max_epochs=1", "logger=none")


def test_evaluations_and_exports_go_when_their_run_trains_on(run: Path, command: Command) -> None:
    exported = "export/model.onnx"
    (run / exported).parent.mkdir()
    (run / exported).touch()
    for split in ("test", "val"):
        assert command("evaluate.py", f"run={run}", f"split={split}").code == 0
    assert command("train.py", f"resume={run}").code == 0
    assert all((run / name).exists() for name in (*FILES, *OF_VAL, exported))
    assert command("train.py", f"resume={run}", "trainer.max_epochs=2").code == 0
    assert not any((run / name).exists() for name in (*FILES, *OF_VAL, exported))


def test_the_validation_set_is_measured_beside_the_test_set(run: Path, command: Command) -> None:
    assert command("evaluate.py", f"run={run}", "split=val").code == 0
    evaluation = json.loads((run / OF_VAL[0]).read_text())
    validated = json.loads((run / "result.json").read_text())["metrics"]
    assert (evaluation["samples"], evaluation["accuracy"]) == (300, validated["val/acc"])
    assert not (run / FILES[0]).exists()


def test_of_many_classes_what_is_confused_most_is_shown() -> None:
    confusion = 9 * torch.eye(26, dtype=torch.int64)
    confusion[8, 11], confusion[11, 8] = 7, 30
    logits = torch.zeros(26)
    evaluation = Evaluation(0.1, 0.9, logits, logits, confusion, logits[None], logits)
    lines = evaluation_tables(evaluation, tuple(string.ascii_lowercase)).splitlines()
    assert [line.split() for line in lines[-2:]] == [["l", "i", "30"], ["i", "l", "7"]]
    assert max(map(len, lines)) <= WIDTH


def test_in_a_folder_that_cannot_be_written_the_tables_are_shown(
    run: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, opened = command("evaluate.py", f"run={run}").out, os.open
    for name in FILES:
        (run / name).unlink()

    def refused(path: Any, flags: int, *arguments: Any, **named: Any) -> int:
        if flags & os.O_CREAT:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)
        return opened(path, flags, *arguments, **named)

    monkeypatch.setattr(os, "open", refused)
    ended = command("evaluate.py", f"run={run}")
    assert ended.code == 0
    assert ended.out.strip() == whole.partition("written:")[0].strip()
    assert ended.err == f"cannot write {run}: Read-only file system; make it writable\n"
