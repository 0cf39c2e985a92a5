"""Slurm's queue of this user's jobs, which a cluster without accounting has, too."""

import getpass
import math
import subprocess
import time
from collections import Counter
from collections.abc import Sequence

LOOK = 30.0
"""Seconds between two looks; a job that two of them miss, and that has left nothing, is lost."""


class SlurmQueue:
    """The queue, looked at now and then."""

    def __init__(self) -> None:
        self._looked = -math.inf
        self._ids: set[str] | None = None
        self._missed: Counter[str] = Counter()

    def has(self, job: str) -> bool:
        """Tell whether a job is to end yet; so it is taken to be while Slurm does not answer."""
        self._look()
        return self._ids is None or job in self._ids

    def lost(self, jobs: Sequence[str]) -> list[str]:
        """Return which of some jobs were missed by two looks in a row."""
        if self._look():
            self._missed = Counter(
                {job: self._missed[job] + 1 for job in jobs if not self.has(job)}
            )
        return [job for job in jobs if self._missed[job] >= 2]

    def _look(self) -> bool:
        if time.monotonic() - self._looked < LOOK:
            return False
        self._looked = time.monotonic()
        user = f"--user={getpass.getuser()}"
        try:
            said = subprocess.run(
                ["squeue", "--noheader", "--array", "--format=%i", user],
                capture_output=True, text=True, check=True, timeout=LOOK,
            ).stdout  # fmt: skip
        except (OSError, subprocess.SubprocessError):
            self._ids = None
        else:
            self._ids = set(said.split())
        return True
