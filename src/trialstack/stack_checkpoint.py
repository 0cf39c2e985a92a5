"""The checkpoint of several trials while they train as a stack: one file, split into theirs when it ends.

A large stack would otherwise write hundreds of files an epoch. The file is in the first trial's folder; the others have
a link to it, so that each of them can be resumed alone.
"""

import os
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import torch
from lightning import __version__
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from trialstack.account import Account
from trialstack.atomic import replaced
from trialstack.checkpoints import Best, load
from trialstack.history import History
from trialstack.stacked import StackedClassifier

PAUSE = 20
"""How much longer than a checkpoint took there is none: a large stack spends 5% of its time on them."""


class Kept(Protocol):
    """What a StackCheckpoint needs of a run."""

    folder: Path
    history: History
    best: Best


class StackCheckpoint(Checkpoint):
    """Writes `stack.ckpt` into the first trial's folder at the end of an epoch, of every epoch if that takes no time.

    Args:
        runs: of the trials.
        account: of the time that this takes.
    """

    def __init__(self, runs: Sequence[Kept], account: Account) -> None:
        first = runs[0].folder
        self.file = _file(first)
        self.folders = [os.path.relpath(run.folder, first) for run in runs]
        self.histories = [run.history for run in runs]
        self.bests = [run.best for run in runs]
        self.account = account
        self.best: list[dict[str, Any] | None] = [None] * len(runs)
        self.diverged: dict[int, int] = {}
        self._unsaved: set[int] = set()
        self._next = 0.0

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, StackedClassifier)
        self.diverged = pl_module.diverged
        with self.account.measure("checkpoints"):
            for trial, (best, measured) in enumerate(zip(self.bests, pl_module.measured, strict=True)):
                if trial not in self.diverged and best.improves(measured, trainer.current_epoch + 1):
                    self.best[trial] = _header(trainer) | pl_module.weights(trial)
                    self._unsaved.add(trial)
            last = trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs
            began = time.monotonic()
            if last or began >= self._next:
                with replaced(self.file) as temporary:
                    trainer.save_checkpoint(temporary)
                self._unsaved.clear()
                self._link()
                ended = time.monotonic()
                self._next = ended + PAUSE * (ended - began)

    def state_dict(self) -> dict[str, Any]:
        return {
            "folders": self.folders,
            "best": self.best,
            "diverged": self.diverged,
            "callbacks": [
                {"History": history.state_dict(), "BestAndLast": best.state_dict()}
                for history, best in zip(self.histories, self.bests, strict=True)
            ],
        }

    @property
    def state_key(self) -> str:
        return "StackCheckpoint"

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.diverged = state_dict["best"], state_dict["diverged"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, StackedClassifier)
        pl_module.diverged.update(self.diverged)

    def finish(self, ended: bool) -> None:
        """Give every trial its `best.ckpt` and, if the stack has ended, its `last.ckpt` of the stack's checkpoint."""
        with self.account.measure("checkpoints"):
            splits = ended and self.file.exists()
            if splits:
                split(self.file)
            for trial, (folder, state) in enumerate(zip(self.folders, self.best, strict=True)):
                if state is not None and (trial in self._unsaved or not splits):
                    _write(_folder(self.file, folder), "best.ckpt", state)

    def _link(self) -> None:
        for folder in self.folders[1:]:
            link = _file(_folder(self.file, folder))
            target = os.path.relpath(self.file, link.parent)
            if not link.is_symlink() or os.readlink(link) != target:
                link.parent.mkdir(exist_ok=True)
                link.unlink(missing_ok=True)
                link.symlink_to(target)


def stack_file(folder: Path) -> Path | None:
    """Return the checkpoint of the stack in which the trial in `folder` was stopped, None if there is none."""
    file = _file(folder)
    return Path(os.path.realpath(file)) if file.exists() else None


def members(file: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Return the folders of a stack's trials, each with what its own checkpoint would have besides its weights.

    Raises:
        UserError: the file is damaged.
    """
    checkpoint = load(file, mmap=True)
    stack = checkpoint["callbacks"]["StackCheckpoint"]
    kept = {"epoch": checkpoint["epoch"], "engine": "stacked"}
    return [
        (_folder(file, folder), kept | {"callbacks": callbacks})
        for folder, callbacks in zip(stack["folders"], stack["callbacks"], strict=True)
    ]


def split(file: Path) -> None:
    """Replace a stack's checkpoint by those of its trials; a diverged trial keeps the one that it had.

    Raises:
        UserError: it is damaged.
    """
    checkpoint = load(file, mmap=True)
    stack = checkpoint.pop("callbacks")["StackCheckpoint"]
    states = checkpoint.pop("trials")
    parts = zip(stack["folders"], states, stack["best"], stack["callbacks"], strict=True)
    for trial, (relative, state, best, callbacks) in enumerate(parts):
        folder, is_best = _folder(file, relative), False
        if trial not in stack["diverged"]:
            _write(folder, "last.ckpt", checkpoint | state | {"callbacks": callbacks})
            is_best = callbacks["BestAndLast"]["best_epoch"] == checkpoint["epoch"] + 1
        if is_best:
            _copy(folder, "last.ckpt", "best.ckpt")
        elif best is not None:
            _write(folder, "best.ckpt", best)
    file.unlink()
    for folder in stack["folders"][1:]:
        link = _file(_folder(file, folder))
        link.unlink(missing_ok=True)
        with suppress(OSError):  # of a trial that has checkpoints
            link.parent.rmdir()


def _write(folder: Path, name: str, checkpoint: Mapping[str, Any]) -> None:
    if folder.is_dir():  # else the trial has been removed since
        with replaced(folder / "checkpoints" / name) as temporary:
            torch.save(checkpoint, temporary)


def _copy(folder: Path, name: str, other: str) -> None:
    """Give a checkpoint another name too: files are replaced as a whole, so that both may be one."""
    if folder.is_dir():
        with replaced(folder / "checkpoints" / other) as temporary:
            temporary.unlink(missing_ok=True)
            try:
                temporary.hardlink_to(folder / "checkpoints" / name)
            except OSError:  # a file system without
                shutil.copyfile(folder / "checkpoints" / name, temporary)


def _file(folder: Path) -> Path:
    return folder / "checkpoints" / "stack.ckpt"


def _folder(file: Path, relative: str) -> Path:
    """The folder of a trial, from that of the first one."""
    return Path(os.path.normpath(file.parent.parent / relative))


def _header(trainer: Trainer) -> dict[str, Any]:
    return {
        "epoch": trainer.current_epoch,
        "global_step": trainer.global_step,
        "pytorch-lightning_version": __version__,
    }
