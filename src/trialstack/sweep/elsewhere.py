"""What a process does that trains a stack for a driver elsewhere."""

import logging
import os
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from trialstack.core import layout
from trialstack.core.errors import UserError
from trialstack.run.result import Result
from trialstack.sweep.stack_task import StackTask
from trialstack.sweep.workers import working

if TYPE_CHECKING:
    from trialstack.data.cache import Datasets


@dataclass(frozen=True)
class Place:
    """Where the driver is, as far as a worker must be there too.

    Attributes:
        folder: the working folder.
        modules: where modules are looked for.
        probe: a file with `token`, in the sweep's folder.
        token: of this command.
    """

    folder: str
    modules: Sequence[str]
    probe: Path
    token: str

    @classmethod
    def here(cls, sweep: Path) -> "Place":
        """Write a probe into a sweep's folder."""
        probe, token = sweep.absolute() / layout.PROBE, os.urandom(8).hex()
        probe.write_text(token, encoding="utf-8")
        return cls(os.getcwd(), tuple(sys.path), probe, token)

    def enter(self) -> None:
        """Have this process be there.

        Raises:
            UserError: it does not see the driver's files.
        """
        try:
            seen = self.probe.read_text(encoding="utf-8")
        except OSError:
            seen = ""
        if seen != self.token:
            raise UserError(
                f"{self.probe.parent} must be on storage that all workers see, which "
                f"{socket.gethostname()} does not, or another command trains there; use "
                "hydra.sweep.dir=FOLDER on shared storage"
            )
        os.chdir(self.folder)
        sys.path[:] = dict.fromkeys([*self.modules, *sys.path])


def train_here(task: StackTask, place: Place, threads: int | None, job: str) -> list[Result]:
    """Train a task in this process, which has been made for that or trained others before.

    Args:
        task: what is trained; trials that have checkpoints go on from them, for a worker before
            this one may have been lost.
        place: where the driver is.
        threads: of torch; None for as many as it takes by itself.
        job: what the scheduler calls this.

    Raises:
        UserError: the input is at fault, or the storage is not shared.
        Interrupted: the trials can be trained on.
    """
    place.enter()
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    logging.getLogger("trialstack").setLevel(logging.WARNING)
    with working(place.probe.parent, job):
        trials = [
            replace(
                trial,
                began=time.perf_counter(),
                resume=trial.resume or _has_checkpoint(trial.folder),
                job=job,
            )
            for trial in task.trials
        ]
        return replace(task, trials=trials).train([], _datasets(), is_held=True)


def _has_checkpoint(folder: Path) -> bool:
    return any(os.path.lexists(folder / file) for file in (layout.LAST, layout.STACK))


@cache
def _datasets() -> "Datasets":
    """Those that earlier tasks of this process have loaded."""
    from trialstack.data.cache import Datasets

    return Datasets()
