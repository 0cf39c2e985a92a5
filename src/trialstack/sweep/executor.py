"""Where the stacks of a sweep train: what is asked of an executor, and the one in this process.

Above it, and so the same wherever stacks train, are resuming, halving, search, failures, progress
and the leaderboard.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from trialstack.core import layout
from trialstack.core.errors import CannotWrite, Interrupted
from trialstack.run.result import Result
from trialstack.sweep.stack_task import StackTask

if TYPE_CHECKING:
    from trialstack.data.cache import Datasets
    from trialstack.sweep.progress import SweepBar


class Ended(NamedTuple):
    """A task that has ended.

    Attributes:
        task: the task.
        outcome: the results of its trials, or what was raised instead.
    """

    task: StackTask
    outcome: Sequence[Result] | Exception


class Executor(Protocol):
    """Trains the stacks of a sweep."""

    @property
    def workers(self) -> int:
        """How many stacks train at once."""

    @property
    def on_gpu(self) -> bool:
        """Whether each of them has a GPU."""

    @property
    def on_this_machine(self) -> bool:
        """Whether all of them are certain to be on this machine."""

    def begin(self, folder: Path) -> None:
        """Prepare for a sweep.

        Args:
            folder: of the sweep, which is there.

        Raises:
            UserError: nothing can be trained like this.
        """

    def train(self, tasks: Iterable[StackTask], bar: SweepBar) -> Generator[Ended, None, None]:
        """Train stacks, and yield each when it has ended. If the iterator is closed, or
        interrupted, those that still train are stopped, and can be trained on.

        Args:
            tasks: the stacks, the most costly first; each is made when it is asked for.
            bar: shows how far they are.

        Raises:
            Interrupted: Ctrl-C, SIGTERM or SIGHUP.
            CannotWrite: the disk is full.
        """


class ThisProcess:
    """Trains stacks one after another."""

    workers = 1
    on_gpu = False
    on_this_machine = True

    def __init__(self) -> None:
        self._datasets: Datasets | None = None

    def begin(self, folder: Path) -> None:
        """Have jobs that wait in a queue for an earlier command find that they come too late."""
        (folder / layout.PROBE).unlink(missing_ok=True)

    def train(self, tasks: Iterable[StackTask], bar: SweepBar) -> Generator[Ended, None, None]:
        from trialstack.data.cache import Datasets  # torch, from here on
        from trialstack.engine.memory import release_memory

        self._datasets = self._datasets or Datasets()
        for task in tasks:
            try:
                outcome: Sequence[Result] | Exception = task.train([bar], self._datasets)
            except (Interrupted, CannotWrite):
                raise
            except Exception as error:
                outcome = error
            release_memory()
            yield Ended(task, outcome)
