"""How OpenMP's threads wait for each other: on an idle machine spinning, beside other work asleep.

Products of small networks take some 10 us on all cores, so that a thread that fell asleep between
them would cost a third of the speed. But a thread that spins while another process has the core of
the one that it waits for costs ten times as much as it saves. GNU's OpenMP, which torch uses on
Linux, spins no more than a moment once it has more threads than there are cores: so threads that do
nothing are there while others hold cores. They change no number.
"""

import ctypes
import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from trialstack.core.load import Load

log = logging.getLogger(__name__)

PAUSE = 0.5
"""Seconds between two looks at the load."""

CROWDED = 0.25
"""Cores that others hold beyond those that torch's threads leave free, from which on threads sleep.
"""

_told = threading.Event()


class Cores:
    """The machine's cores, of which this process has what others leave.

    Attributes:
        threads: that torch computes with by itself.
        free: how many of them find a core; at least one.
    """

    def __init__(self, others: float) -> None:
        self.threads = self.free = torch.get_num_threads()
        self.look(others)

    def look(self, others: float) -> None:
        """Take note that others hold so many cores."""
        free = int((os.cpu_count() or 1) - others + CROWDED)
        self.free = max(1, min(self.threads, free))

    @property
    def crowded(self) -> bool:
        return self.free < self.threads


@contextmanager
def waiting_by_load(started: Load) -> Iterator[Cores]:
    """Have threads sleep while others hold the cores that they need; say so if others did since
    `started`.

    Yields the cores, looked at every `PAUSE` seconds.
    """
    others = started.others()
    cores = Cores(others)
    if cores.crowded and not _told.is_set():
        _told.set()
        log.warning(
            "other processes hold %.1f of %s cores: training takes longer beside them",
            others,
            os.cpu_count(),
        )
    ended = threading.Event()
    watch = threading.Thread(target=_watch, args=(ended, cores), name="waiting", daemon=True)
    watch.start()
    try:
        yield cores
    finally:
        ended.set()
        watch.join()


def _watch(ended: threading.Event, cores: Cores) -> None:
    load, idlers = Load(), Idlers()
    try:
        while True:
            idlers.set(cores.crowded)
            looked = time.monotonic()
            if ended.wait(PAUSE):
                return
            others = load.others()
            if time.monotonic() - looked < 2 * PAUSE:  # else this process was stopped meanwhile
                cores.look(others)
    finally:
        idlers.set(False)


class Idlers:
    """Threads of GNU's OpenMP that do nothing, one more than there are cores, in a team of their
    own.
    """

    def __init__(self) -> None:
        self._library = _library()
        self._released: threading.Event | None = None
        self._leader: threading.Thread | None = None

    def set(self, wanted: bool) -> None:
        """Have them, or not; without that OpenMP there are none."""
        if wanted and self._leader is None and self._library is not None:
            there, self._released = threading.Event(), threading.Event()
            self._leader = threading.Thread(
                target=self._lead, args=(there, self._released), name="idlers", daemon=True
            )
            self._leader.start()
            there.wait()
        elif not wanted and self._leader is not None and self._released is not None:
            self._released.set()
            self._leader.join()  # with which the team is gone
            self._leader = None

    def _lead(self, there: threading.Event, released: threading.Event) -> None:
        assert self._library is not None
        count = self._library.omp_get_num_procs
        # a function of the library's that ignores its argument
        nothing = ctypes.cast(count, ctypes.c_void_p)
        self._library.GOMP_parallel(nothing, None, ctypes.c_uint(count() + 1), ctypes.c_uint(0))
        there.set()
        released.wait()


def _library() -> ctypes.CDLL | None:
    """The GNU OpenMP that torch has loaded; other packages may have brought their own."""
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return None
    paths = {Path(line.split()[-1]) for line in lines if "libgomp" in line}
    of_torch = {
        path for path in paths if path.is_relative_to(Path(torch.__file__).resolve().parent)
    } or paths
    return ctypes.CDLL(str(of_torch.pop())) if len(of_torch) == 1 else None
