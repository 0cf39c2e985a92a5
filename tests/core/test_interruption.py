"""Signals that interrupt a command, at moments that different parts of it would answer."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest

from tests.conftest import Ended
from tests.signals import handlers_restored, listen
from trialstack.core.interruption import PATIENCE, Interruption

Command = Callable[..., Ended]
QUICK = ("model.hidden=[8]", "trainer.max_epochs=2", "callbacks=none", "logger=none")
MOMENTS = {
    "importing": "trialstack.run.train:quiet",
    "reading the data": "trialstack.data.cache:Datasets.load",
    "training": "trialstack.run.timing:Timing.on_train_epoch_start",
    "after an epoch": "trialstack.run.history:History.write",
    "testing": "trialstack.run.report:Report.conclude",
}


@pytest.fixture
def send(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Have a function of the package send signals to this process before it does its work."""

    def before(name: str, number: int, times: int = 1) -> None:
        owner, _, attribute = name.replace(":", ".").rpartition(".")
        function = resolve_name(name)

        def called(*arguments: Any, **named: Any) -> Any:
            for _ in range(times):
                signal.raise_signal(number)
            return function(*arguments, **named)

        monkeypatch.setattr(resolve_name(owner), attribute, called)

    return before


CASES = [(signal.SIGTERM, moment) for moment in MOMENTS] + [
    (signal.SIGINT, "training"),
    (signal.SIGHUP, "training"),
]


@pytest.mark.parametrize(("number", "moment"), CASES)
def test_a_signal_ends_a_run_with_the_command_that_continues_it(
    number: signal.Signals, moment: str, command: Command, send: Callable[..., None]
) -> None:
    send(MOMENTS[moment], number)
    ended = command("train.py", *QUICK, "hydra.run.dir=a")
    assert (ended.code, ended.err) == (130, "interrupted; `python train.py resume=a` continues\n")
    if moment != "importing":
        assert json.loads(Path("a/result.json").read_text())["status"] == "interrupted"
    assert not [path for path in Path("a").rglob(".*") if path.is_file()], (
        "no lock, no temporary file"
    )


def test_signals_that_come_while_the_first_is_handled_cost_nothing(
    command: Command, send: Callable[..., None]
) -> None:
    send(MOMENTS["training"], signal.SIGINT)
    send("trialstack.run.run:Run.write_result", signal.SIGINT)  # of two trials
    ended = command("train.py", "-m", *QUICK, "seed=1,2", "sweep=s")
    assert ended.code == 130
    assert ended.err.splitlines()[-1].endswith("sweep=s` continues")
    assert "Traceback" not in ended.err
    for trial in (0, 1):
        result = json.loads(Path(f"outputs/sweeps/s/{trial}/result.json").read_text())
        assert result["status"] == "interrupted"


def test_a_command_that_hangs_while_it_finishes_can_be_ended() -> None:
    hangs = f"""
import signal, time
from trialstack.core.interruption import PATIENCE, Interruption

with Interruption():
    try:
        signal.raise_signal(signal.SIGINT)
    finally:
        for _ in range({PATIENCE - 1}):
            signal.raise_signal(signal.SIGTERM)
        print("finishing")
        signal.raise_signal(signal.SIGTERM)
        print("finished")
"""
    ended = subprocess.run(
        [sys.executable, "-u", "-c", hangs], capture_output=True, text=True, preexec_fn=listen
    )
    assert (ended.returncode, ended.stdout) == (-signal.SIGTERM, "finishing\n")
    assert "more" in ended.stderr


@pytest.fixture
def handled() -> Iterator[None]:
    with handlers_restored(), Interruption():
        yield


def wait() -> None:
    """Wait for an interruption that comes again."""
    for _ in range(1000):
        time.sleep(0.01)


def test_an_import_that_is_interrupted_is_finished_first(
    handled: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "interrupted.py").write_text(
        "import signal\n\nsignal.raise_signal(signal.SIGTERM)\nwhole = True\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    module = import_module("interrupted")
    assert module.whole
    with pytest.raises(KeyboardInterrupt):
        wait()


def test_an_interruption_that_a_library_swallows_comes_again(handled: None) -> None:
    with suppress(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        wait()


def test_what_nohup_ignores_stays_ignored() -> None:
    with handlers_restored():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with Interruption():
            signal.raise_signal(signal.SIGHUP)
