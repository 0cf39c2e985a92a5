"""Threads that wait for each other: asleep while others hold the cores, else spinning."""

import logging
import threading
import time

import psutil
import pytest

from trialstack.core.load import Load
from trialstack.engine import waiting
from trialstack.engine.waiting import Cores, Idlers, waiting_by_load


class Others(Load):
    """So many cores, held by others."""

    cores = 0.0

    def others(self) -> float:
        return self.cores


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """What `Idlers.set` was called with."""
    calls: list[bool] = []
    monkeypatch.setattr(Idlers, "set", lambda self, wanted: calls.append(wanted))
    monkeypatch.setattr(waiting, "Load", Others)
    monkeypatch.setattr(waiting, "PAUSE", 0.02)
    monkeypatch.setattr(waiting, "_told", threading.Event())
    monkeypatch.setattr("torch.get_num_threads", lambda: 2)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    return calls


def until(seen: list[bool], last: bool) -> None:
    seen.clear()
    while not seen or seen[-1] != last:
        time.sleep(0.001)


def test_threads_sleep_as_long_as_others_hold_the_cores(
    seen: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    with waiting_by_load(Others()):
        until(seen, False)
        monkeypatch.setattr(Others, "cores", 1.0)
        until(seen, True)
        monkeypatch.setattr(Others, "cores", 0.0)
        until(seen, False)
        monkeypatch.setattr(Others, "cores", 1.0)
        until(seen, True)
    assert seen[-1] is False


def test_cores_that_others_hold_are_said_once(
    seen: list[bool], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    for cores in (0.1, 0.9, 0.9):
        monkeypatch.setattr(Others, "cores", cores)
        with waiting_by_load(Others()):
            pass
    assert caplog.messages == [
        "other processes hold 0.9 of 2 cores: training takes longer beside them"
    ]


@pytest.mark.parametrize(
    ("others", "free"), [(0.0, 2), (0.2, 2), (0.3, 1), (1.0, 1), (2.0, 1), (7.0, 1)]
)
def test_what_others_leave_of_the_cores(seen: list[bool], others: float, free: int) -> None:
    assert Cores(others).free == free


def test_a_single_thread_waits_for_nobody(
    seen: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.get_num_threads", lambda: 1)
    monkeypatch.setattr(Others, "cores", 2.0)
    with waiting_by_load(Others()):
        pass
    assert set(seen) == {False}


@pytest.mark.skipif(waiting._library() is None, reason="torch does not use GNU's OpenMP here")
def test_idle_threads_come_and_go() -> None:
    import sklearn.ensemble  # noqa: F401  # which brings another OpenMP

    before, idlers = threads(), Idlers()
    idlers.set(True)
    idle = threads() - before
    assert len(idle) > 1
    idlers.set(False)
    while threads() & idle:
        time.sleep(0.01)


def threads() -> set[int]:
    return {thread.id for thread in psutil.Process().threads()}


def test_what_this_process_does_is_not_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    at = iter(
        [(0.0, 10.0, 5.0), (10.0, 25.0, 12.0)]
    )  # the time, seconds of all cores, seconds of this process
    monkeypatch.setattr("trialstack.core.load._read", lambda: next(at))
    assert Load().others() == pytest.approx(0.8)
