"""Disks that are full and folders that cannot be written."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import Ended

Command = Callable[..., Ended]
QUICK = ("model.hidden=[8]", "trainer.max_epochs=2", "logger=none")


@contextmanager
def failing(number: int) -> Iterator[None]:
    """Have no file get onto the disk, with an error that names none, as one of a write."""

    def fsync(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("os.fsync", fsync)
        yield


def test_a_run_on_a_full_disk_names_the_folder_and_goes_on_once_there_is_room(
    command: Command,
) -> None:
    with failing(errno.ENOSPC):
        ended = command("train.py", *QUICK, "hydra.run.dir=a")
    assert (ended.code, len(ended.err.splitlines())) == (2, 1)
    assert ended.err.startswith("cannot write a")
    assert (
        "No space left on device; make room there, then `python train.py resume=a` continues"
        in ended.err
    )
    assert ".part" not in ended.out + ended.err
    assert "None" not in ended.out + ended.err
    assert command("train.py", "resume=a").code == 0


def test_a_sweep_whose_disk_gets_full_names_the_command_that_continues_it(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("trialstack.run.history.History.write", full)
    ended = command("train.py", "-m", *QUICK, "seed=1,2", "sweep=s")
    assert (ended.code, len(ended.err.splitlines())) == (2, 1)
    assert ended.err.startswith(
        "cannot write outputs/sweeps/s/0: No space left on device; make room there, then `py"
    )
    assert ended.err.endswith("sweep=s` continues\n")


def test_a_sweep_that_cannot_begin_on_a_full_disk_names_its_folder(command: Command) -> None:
    with failing(errno.ENOSPC):
        ended = command("train.py", "-m", *QUICK, "sweep=s")
    assert (ended.code, len(ended.err.splitlines())) == (2, 1)
    assert ended.err == (
        "cannot write outputs/sweeps/s: No space left on device; make room there, or use "
        "hydra.sweep.dir=FOLDER\n"
    )


def test_the_leaderboard_of_a_folder_that_cannot_be_written_is_shown(command: Command) -> None:
    assert command("train.py", "-m", *QUICK, "seed=1,2", "sweep=s").code == 0
    with failing(errno.EROFS):
        ended = command("report.py", "sweep=s")
    assert (ended.code, ended.err) == (0, "")
    assert "completed" in ended.out
    assert ended.out.splitlines()[-1].startswith(
        "cannot write outputs/sweeps/s: Read-only file system"
    )


def test_a_run_that_cannot_be_written_is_not_resumed(
    command: Command, trained_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained_run("model.hidden=[32]", "trainer.max_epochs=15", "optimizer.lr=0.1")
    monkeypatch.setattr("os.access", lambda *_: False)
    ended = command("train.py", "resume=run", "trainer.max_epochs=16")
    assert (ended.code, ended.err) == (
        2,
        "cannot write run; make it writable, or copy run and resume the copy\n",
    )
