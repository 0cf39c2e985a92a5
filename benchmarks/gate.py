"""Rivals in processes of their own that train an epoch each in turn: a slow moment of the machine
hits them all.
"""

import contextlib
import importlib
import multiprocessing
import os
import resource
import signal
import sys
import time
import traceback
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from benchmarks.task import Task


class Gate:
    """What a rival calls before every epoch and after the last: it waits there for its turn."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.began: float | None = None
        self.ended = False

    def __call__(self) -> None:
        if self.began is not None:
            seconds = time.perf_counter() - self.began
            self.connection.send(
                (seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
            )
        else:
            self.connection.send("ready")
        if self.connection.recv() == "end":
            self.ended = True
            raise SystemExit
        self.began = time.perf_counter()


class Rival:
    """A process that trains as `module.train(task, gate, **options)` does.

    Args:
        name: as in RESULTS.md.
        module: of this package.
        options: passed on; times are divided by `trials`.
    """

    def __init__(self, name: str, module: str, **options: Any) -> None:
        self.name = name
        self.module = module
        self.options = options
        self.trials: int = options.get("trials", 1)
        self.process: BaseProcess | None = None
        self.seconds: list[float] = []
        self.peak_gib = 0.0

    def start(self, task: Task) -> bool:
        """Start the process and wait until it is ready to train; False if it cannot."""
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(
            target=_run, args=(theirs, self.module, task, self.options), daemon=True
        )
        self.process.start()
        theirs.close()
        try:
            ready = bool(self.connection.recv() == "ready")
        except EOFError:
            return False
        self._signal(signal.SIGSTOP)
        return ready

    def epoch(self) -> float:
        """Train an epoch and return its seconds a trial; the process is stopped at all other
        times.
        """
        self._signal(signal.SIGCONT)
        self.connection.send("go")
        seconds, peak_gib = self.connection.recv()
        self._signal(signal.SIGSTOP)
        self.peak_gib = peak_gib
        return float(seconds) / self.trials

    def stop(self) -> None:
        """End the process, in whatever state it is."""
        if self.process is None:
            return
        if self.process.is_alive():
            self._signal(signal.SIGCONT)
            with contextlib.suppress(BrokenPipeError):
                self.connection.send("end")
        self.process.join(20)
        self.process.kill()

    def _signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        assert self.process.pid is not None
        os.kill(self.process.pid, number)


def _run(connection: Connection, module: str, task: Task, options: dict[str, Any]) -> None:
    errors = os.fdopen(os.dup(2), "w", buffering=1)
    with open(os.devnull, "w") as nowhere:  # for what rivals print
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    if "keras" not in module:
        sys.modules["tensorflow"] = None  # type: ignore[assignment]  # TensorBoard would import it where it is there
    gate = Gate(connection)
    try:
        importlib.import_module(f"benchmarks.{module}").train(task, gate, **options)
    except BaseException:
        if not gate.ended:
            traceback.print_exc(file=errors)
