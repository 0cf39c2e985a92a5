"""How many of the machine's cores are held by others."""

import os
import time

import psutil

_BUSY = ("user", "nice", "system", "irq", "softirq", "steal")


class Load:
    """Measures from when it is made, and anew after each `others`."""

    def __init__(self) -> None:
        self._last = _read()

    def others(self) -> float:
        """Return how many cores other processes, or other guests of the machine's host, held on
        average.
        """
        (began, busy, own), self._last = self._last, _read()
        now, busy_now, own_now = self._last
        return max(0.0, (busy_now - busy - (own_now - own)) / max(now - began, 1e-3))


def _read() -> tuple[float, float, float]:
    """The time, and seconds that all cores and this process, with its children that have ended,
    have worked.
    """
    all_cores, own = psutil.cpu_times(), os.times()
    busy = sum(getattr(all_cores, name, 0.0) for name in _BUSY)
    return time.monotonic(), busy, own.user + own.system + own.children_user + own.children_system


LOAD = Load()
"""Measured from the import of this module on, which is about that of the process."""
