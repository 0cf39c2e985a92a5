"""The checkpoint of several trials while they train as a stack: one file, split into theirs when it
ends.

A large stack would otherwise write hundreds of files an epoch. The file is in the first trial's
folder; the others have a link to it, so that each of them can be resumed alone. It stays until
every trial has its result: whatever a process that is killed leaves half done is done again from
it.
"""

import logging
import os
import time
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from lightning import __version__
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, Checkpoint, EarlyStopping

from trialstack.core import layout
from trialstack.core.errors import UserError, reason
from trialstack.core.inside import is_inside
from trialstack.engine.stacked import StackedClassifier
from trialstack.run.checkpoints import Best, copy, load, write
from trialstack.run.early_end import early_end
from trialstack.run.folder import lock_folder
from trialstack.run.history import History
from trialstack.run.result import Result
from trialstack.run.timing import Account

log = logging.getLogger(__name__)

PAUSE = 20
"""How much longer than a checkpoint took there is none: a large stack spends 5% of its time on
them.
"""


class Kept(Protocol):
    """What a StackCheckpoint needs of a run."""

    folder: Path
    history: History
    best: Best
    ended: str | None
    callbacks: list[Callback]


class StackCheckpoint(Checkpoint):
    """Writes `stack.ckpt` into the first trial's folder at the end of an epoch, of every epoch if
    that takes no time.

    Args:
        runs: of the trials.
        account: of the time that this takes.

    Attributes:
        best: by trial, what its `best.ckpt` shall hold; None if no epoch of it was finished.
        diverged: epochs (from 1) in which trials (by position) diverged.
        ended: what the `last.ckpt` of trials shall hold that ended before the others, by position.
    """

    def __init__(self, runs: Sequence[Kept], account: Account) -> None:
        self.file = _file(runs[0].folder)
        self.runs = runs
        self.account = account
        self.best: list[dict[str, Any] | None] = [None] * len(runs)
        self.diverged: dict[int, int] = {}
        self.ended: dict[int, dict[str, Any]] = {}
        self._last = False
        self._next = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the links before there is a file: a trial without one would not go on with the
        others.
        """
        assert isinstance(pl_module, StackedClassifier)
        pl_module.diverged.update(self.diverged)
        self.diverged = pl_module.diverged
        pl_module.ended.update(self.ended)
        self.file.parent.mkdir(exist_ok=True)
        for run in self.runs[1:]:
            link = _file(run.folder)
            target = os.path.relpath(self.file, link.parent)
            if not link.is_symlink() or os.readlink(link) != target:
                link.parent.mkdir(exist_ok=True)
                link.unlink(missing_ok=True)
                link.symlink_to(target)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, StackedClassifier)
        self._last = (
            early_end(trainer) is not None or trainer.current_epoch + 1 == trainer.max_epochs
        )
        with self.account.measure("checkpoints"):
            for index, (run, measured) in enumerate(
                zip(self.runs, pl_module.measured, strict=True)
            ):
                if index in self.diverged or index in self.ended:
                    continue
                if run.best.improves(measured, trainer.current_epoch + 1):
                    self.best[index] = _header(trainer) | pl_module.weights(index)
                if index in pl_module.ended and not self._last:
                    loops = {
                        "loops": {"fit_loop": trainer.fit_loop.state_dict()},
                        "lr_schedulers": [],
                    }
                    own = pl_module.state(index) | {"callbacks": _callbacks(run)}
                    self.ended[index] = _header(trainer) | loops | own
            began = time.monotonic()
            if self._last or began >= self._next:
                trainer.save_checkpoint(self.file)
                ended = time.monotonic()
                self._next = ended + PAUSE * (ended - began)

    def state_dict(self) -> dict[str, Any]:
        return {
            "folders": [os.path.relpath(run.folder, self.runs[0].folder) for run in self.runs],
            "best": self.best,
            "diverged": self.diverged,
            "ended": self.ended,
            "last": self._last,
            "callbacks": [_callbacks(run) for run in self.runs],
        }

    @property
    def state_key(self) -> str:
        return "StackCheckpoint"

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.diverged, self.ended = (
            state_dict[name] for name in ("best", "diverged", "ended")
        )

    def finish(self, ended: bool) -> None:
        """Give every trial its `best.ckpt` and, if the stack has ended, its `last.ckpt` of the
        stack's checkpoint.
        """
        with self.account.measure("checkpoints"):
            stack = StackFile.of(self.runs[0].folder) if ended else None
            if stack is not None:
                stack.split(self.best, self.diverged)
                return
            for run, best in zip(self.runs, self.best, strict=True):
                if best is not None:
                    write(best, run.best.best)
        if not self.file.exists():
            remove_links(run.folder for run in self.runs)


@dataclass(frozen=True, eq=False)
class StackFile:
    """What a `stack.ckpt` says besides weights.

    Attributes:
        file: the first trial's.
        size: how many trials trained together.
        members: folders of the trials that have a link to the file, by position in the stack.
        last: whether there is nothing left to train.
        diverged: epochs (from 1) in which trials diverged, by position.
        checkpoints: by position, what a trial's own checkpoint would have besides its weights.
    """

    file: Path
    size: int
    members: dict[int, Path]
    last: bool
    diverged: dict[int, int]
    checkpoints: list[dict[str, Any]]

    @classmethod
    def of(cls, folder: Path) -> "StackFile | None":
        """Return the stack in which the trial in `folder` was stopped, None if there is none.

        A file that is damaged, or is not of a stack of this trial, is said to be that and is not
        there any more.
        """
        own = _file(folder)
        file = _target(own) if own.is_symlink() else own
        if not own.exists():
            return None
        try:
            if (
                file is None
                or file.is_symlink()
                or not file.is_file()
                or not _are_together(folder, file.parent.parent)
            ):
                raise ValueError("it is no file of its stack")
            stack = cls._read(file)
            if folder.resolve() not in [member.resolve() for member in stack.members.values()]:
                raise ValueError("the stack has other trials")
        except (
            UserError,
            KeyError,
            TypeError,
            ValueError,
            AttributeError,
            IndexError,
            RecursionError,
        ) as error:
            log.warning(
                "%s cannot be used (%s); the trial goes on without it",
                own,
                reason(error).partition(";")[0],
            )
            own.unlink()
            return None
        return stack

    @classmethod
    def _read(cls, file: Path) -> "StackFile":
        content = load(file, mmap=True)
        stack = content["callbacks"]["StackCheckpoint"]
        first = file.parent.parent
        folders = [Path(os.path.normpath(first / str(name))) for name in stack["folders"]]
        members = {
            position: folder
            for position, folder in enumerate(folders)
            if folder == first or (_target(_file(folder)) == file and _are_together(folder, first))
        }
        kept = {"epoch": int(content["epoch"]), "engine": "stacked"}
        checkpoints = [kept | {"callbacks": callbacks} for callbacks in stack["callbacks"]]
        return cls(
            file, len(folders), members, bool(stack["last"]), dict(stack["diverged"]), checkpoints
        )

    def split(
        self, best: Sequence[dict[str, Any] | None] | None = None, diverged: Collection[int] = ()
    ) -> None:
        """Write the `last.ckpt` and `best.ckpt` of its trials; one that has diverged has the latter
        only.

        Args:
            best: what is in `best.ckpt`, by position; None for what the file has.
            diverged: positions of more trials than the file has.
        """
        content = load(self.file, mmap=True)
        timers, states = content.pop("callbacks"), content.pop("trials")
        stack = timers.pop("StackCheckpoint")
        best = stack["best"] if best is None else best
        for position, folder in self.members.items():
            callbacks, state = stack["callbacks"][position], best[position]
            last_file, best_file = (folder / file for file in (layout.LAST, layout.BEST))
            goes_on = position not in self.diverged and position not in diverged
            last = stack["ended"].get(position) or content | states[position] | {
                "callbacks": callbacks | timers
            }
            if goes_on:
                write(last, last_file)
            if goes_on and callbacks["BestAndLast"]["best_epoch"] == last["epoch"] + 1:
                copy(last_file, best_file)
            elif state is not None:
                write(state, best_file)

    def remove(self) -> None:
        """Remove it, once its trials have checkpoints, or results, of their own."""
        remove_links(self.members.values())
        self.file.unlink()
        _remove_if_empty(self.file.parent)


def remove_if_done(folder: Path) -> None:
    """Remove the checkpoint of the stack of the trial in `folder` if each of its trials has a
    result.
    """
    stack = StackFile.of(folder)
    if stack is None:
        remove_links([folder])
        return
    results = map(Result.read, stack.members.values())
    if all(result is not None and result.status.is_final for result in results):
        stack.remove()


def remove_links(folders: Iterable[Path]) -> None:
    """Remove the links of a stack's trials to its checkpoint."""
    for folder in folders:
        if _file(folder).is_symlink():
            _file(folder).unlink()
        _remove_if_empty(folder / layout.CHECKPOINTS)


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):  # it has checkpoints
        folder.rmdir()


def _file(folder: Path) -> Path:
    return folder / layout.STACK


def _target(link: Path) -> Path | None:
    """Where a trial's link leads, if that may be the checkpoint of a stack."""
    try:
        target = Path(os.path.normpath(link.parent / os.readlink(link)))
    except OSError:
        return None
    return target if target == _file(target.parent.parent) else None


def _are_together(folder: Path, other: Path) -> bool:
    """Tell whether both are trials of one sweep, or neither is of any."""
    root = lock_folder(folder)
    if root == folder:
        return lock_folder(other) == other
    return all(is_inside(os.path.relpath(trial, root), root) for trial in (folder, other))


def _callbacks(run: Kept) -> dict[str, Any]:
    """What the callbacks of a trial that trains alone have in its checkpoint."""
    stopping = [callback for callback in run.callbacks if isinstance(callback, EarlyStopping)]
    return {
        "History": run.history.state_dict(),
        "BestAndLast": {**run.best.state_dict(), "ended": run.ended},
        **{callback.state_key: callback.state_dict() for callback in stopping},
    }


def _header(trainer: Trainer) -> dict[str, Any]:
    return {
        "epoch": trainer.current_epoch,
        "global_step": trainer.global_step,
        "pytorch-lightning_version": __version__,
    }
