"""What `evaluate.py` leaves in a run folder, and how long it stays."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Ended

Command = Callable[..., Ended]
FILES = ("evaluation.json", "evaluation.png")


@pytest.fixture
def run(trained_run: Callable[..., Path]) -> Path:
    return trained_run("model.hidden=[8]", "trainer.max_epochs=1", "logger=none")


def test_an_evaluation_goes_when_its_run_trains_on(run: Path, command: Command) -> None:
    assert command("evaluate.py", f"run={run}").code == 0
    assert command("train.py", f"resume={run}").code == 0
    assert all((run / name).exists() for name in FILES)
    assert command("train.py", f"resume={run}", "trainer.max_epochs=2").code == 0
    assert not any((run / name).exists() for name in FILES)


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
