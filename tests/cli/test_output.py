"""What is printed where it cannot be shown, and files where the locale is not UTF-8."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT, Ended
from trialstack.cli.output import never_fail

Command = Callable[..., Ended]
QUICK = ("model.hidden=[8]", "trainer.max_epochs=2", "logger=none")


def statuses(sweep: str) -> list[str]:
    files = sorted(Path("outputs/sweeps", sweep).glob("*/result.json"))
    return [json.loads(file.read_text(encoding="utf-8"))["status"] for file in files]


def test_a_sweep_whose_output_nobody_reads_goes_on_to_its_end(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w", encoding="utf-8") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        monkeypatch.setattr(sys, "stderr", pipe)
        assert command("train.py", "-m", *QUICK, "seed=1,2", "sweep=s").code == 0
    assert statuses("s") == ["completed", "completed"]


def test_a_terminal_without_the_characters_gets_them_spelled(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, "ascii"))
    assert command("train.py", "-m", *QUICK, "seed=1,2,3", "sweep=s").code == 0
    assert b" +- 0." in shown.getvalue()


def test_a_full_disk_behind_the_output_is_said(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stdout", full)
        ended = command("train.py", "--cfg", "job")
    assert (ended.code, ended.err) == (
        0,
        "some of the output cannot be shown: No space left on device\n",
    )


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&- <&-"])
def test_what_is_written_to_a_closed_descriptor_gets_into_no_file(
    closed: str, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    prints = "\n".join(
        [
            "import os, sys",
            "from trialstack.cli.output import never_fail",
            "never_fail()",
            f"file = open({str(file)!r}, 'w')",
            "for _ in range(10_000): print('shown'); print('said', file=sys.stderr)",
            "os.write(1, b'shown'), os.write(2, b'said')",
        ]
    )
    ended = subprocess.run(
        ["sh", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, prints], capture_output=True
    )
    assert ended.returncode == 0
    assert file.read_text(encoding="utf-8") == ""


@pytest.mark.commands
def test_files_are_utf8_whatever_the_locale(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-X", "utf8=0", ROOT / "train.py", "-m", *QUICK, "seed=1,2,3", "sweep=s"],
        env=os.environ | {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"},
        cwd=tmp_path,
        capture_output=True,
    )
    assert ended.returncode == 0, ended.stderr
    assert b" +- 0." in ended.stdout
    assert " ± 0." in (tmp_path / "outputs/sweeps/s/leaderboard.md").read_text(encoding="utf-8")


def test_an_argument_that_the_locale_cannot_read_is_refused(command: Command) -> None:
    ended = command("train.py", 'hydra.run.dir="gr\udcc3\udcb6"')
    assert (ended.code, len(ended.err.splitlines())) == (2, 1)
    assert "arguments must be text" in ended.err


@pytest.mark.parametrize(("started", "kept"), [([], False), (["hydra.output_subdir=null"], True)])
def test_a_rank_counts_only_in_a_process_that_lightning_has_started(
    started: list[str], kept: bool, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert command("train.py", "--cfg", "job", *started).code == 0
    assert ("LOCAL_RANK" in os.environ) == kept


def test_a_stream_that_stands_in_for_the_terminals_stays_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown = io.BytesIO()
    monkeypatch.setattr(
        sys, "stdout", io.TextIOWrapper(shown, "utf-8")
    )  # that closes `shown` when it goes
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    never_fail()
    print("shown", flush=True)
    assert shown.getvalue() == b"shown\n"
