"""The checkpoint of several trials while they train as a stack: one file, split into theirs when it ends.

A large stack would otherwise write hundreds of files an epoch.
"""

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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


class StackCheckpoint(Checkpoint):
    """Writes `stack.ckpt` into the first trial's folder at the end of an epoch, of every epoch if that takes no time.

    Args:
        folders: of the trials.
        histories: of the trials.
        bests: of the trials.
        account: of the time that this takes.
    """

    def __init__(
        self, folders: Sequence[Path], histories: Sequence[History], bests: Sequence[Best], account: Account
    ) -> None:
        self.file = stack_file(folders[0])
        self.folders = [os.path.relpath(folder, folders[0]) for folder in folders]
        self.histories = histories
        self.bests = bests
        self.account = account
        self.best: list[dict[str, Any] | None] = [None] * len(folders)
        self.diverged: dict[int, int] = {}
        self._next = 0.0

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, StackedClassifier)
        self.diverged = pl_module.diverged
        with self.account.measure("checkpoints"):
            for trial, (best, measured) in enumerate(zip(self.bests, pl_module.measured, strict=True)):
                if trial not in self.diverged and best.improves(measured, trainer.current_epoch + 1):
                    self.best[trial] = _header(trainer) | pl_module.weights(trial)
            last = trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs
            began = time.monotonic()
            if last or began >= self._next:
                with replaced(self.file) as temporary:
                    trainer.save_checkpoint(temporary)
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

    def finish(self) -> None:
        """Give every trial its `best.ckpt`, and its `last.ckpt` of the stack's last checkpoint."""
        with self.account.measure("checkpoints"):
            if self.file.exists():
                split(self.file)
            _write_best(self.file, self.folders, self.best)


def stack_file(folder: Path) -> Path:
    """Return the checkpoint of the stack whose first trial is in `folder`."""
    return folder / "checkpoints" / "stack.ckpt"


def split(file: Path) -> None:
    """Replace a stack's checkpoint by those of its trials; a diverged trial keeps the one that it had.

    Raises:
        UserError: it is damaged.
    """
    checkpoint = load(file)
    stack = checkpoint.pop("callbacks")["StackCheckpoint"]
    states = checkpoint.pop("trials")
    for trial, (folder, state, callbacks) in enumerate(zip(stack["folders"], states, stack["callbacks"], strict=True)):
        if trial not in stack["diverged"]:
            _write(
                file.parent.parent / folder / "checkpoints" / "last.ckpt", checkpoint | state | {"callbacks": callbacks}
            )
    _write_best(file, stack["folders"], stack["best"])
    file.unlink()


def _write_best(file: Path, folders: Sequence[str], states: Sequence[Mapping[str, Any] | None]) -> None:
    for folder, state in zip(folders, states, strict=True):
        if state is not None:
            _write(file.parent.parent / folder / "checkpoints" / "best.ckpt", state)


def _write(file: Path, checkpoint: Mapping[str, Any]) -> None:
    file = Path(os.path.normpath(file))
    if file.parent.parent.is_dir():  # else the trial has been removed since
        with replaced(file) as temporary:
            torch.save(checkpoint, temporary)


def _header(trainer: Trainer) -> dict[str, Any]:
    return {
        "epoch": trainer.current_epoch,
        "global_step": trainer.global_step,
        "pytorch-lightning_version": __version__,
    }
