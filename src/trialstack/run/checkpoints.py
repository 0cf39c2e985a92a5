"""Checkpoints: `best.ckpt` and `last.ckpt` in a run folder, written whole or not at all, and read
back.
"""

import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from trialstack.core import layout
from trialstack.core.atomic_files import replaced
from trialstack.core.called import called
from trialstack.core.errors import UserError
from trialstack.core.objective import improves
from trialstack.core.untrusted import opened
from trialstack.engine.eager import MADE_OF
from trialstack.engine.memory import is_out_of_memory


class BestEpoch:
    """A trial's best epoch so far, and where its checkpoints are.

    Attributes:
        best: file of the best epoch.
        last: file of the last epoch.
        score: the objective in the best epoch.
        epoch: the best epoch, from 1.
    """

    def __init__(self, folder: Path, objective: str) -> None:
        self.best_file = folder / layout.BEST
        self.last_file = folder / layout.LAST
        self.objective = objective
        self.score: float | None = None
        self.epoch: int | None = None

    def improves(self, measured: Mapping[str, float], epoch: int) -> bool:
        """Tell whether `epoch` is the best so far, and remember it if it is."""
        score = measured.get(self.objective, math.nan)
        improved = improves(score, self.score, self.objective)
        if improved:
            self.score, self.epoch = score, epoch
        return improved

    def state_dict(self) -> dict[str, Any]:
        return {"best_score": self.score, "best_epoch": self.epoch}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        self.score, self.epoch = state_dict["best_score"], state_dict["best_epoch"]


class WholeFiles(TorchCheckpointIO):
    """How Lightning writes checkpoints: where they stay, whole or not at all, without the system's
    temporary folder.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        write(checkpoint, Path(path))


def write(checkpoint: Mapping[str, Any], path: Path) -> None:
    """Write a checkpoint.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
    """
    with replaced(path) as temporary, temporary.open("wb") as file:
        try:
            torch.save(checkpoint, file)
        except RuntimeError as error:  # what torch makes of an error of the file
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def copy(path: Path, other: Path) -> None:
    """Give a checkpoint another name too: files are replaced as a whole, so that both may be
    one.
    """
    with replaced(other) as temporary:
        temporary.unlink()
        try:
            os.link(path, temporary)
        except OSError:  # a file system without
            shutil.copyfile(path, temporary)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return the checkpoint of a Classifier, or of a network that trains itself, its tensors on the
    CPU, without running code from the file.

    Raises:
        UserError: there is none, it is damaged, or something else wrote it.
    """
    checkpoint = load(path)
    if not isinstance(checkpoint, dict) or set(arguments(checkpoint)) != _ARGUMENTS:
        raise UserError(
            f"{path} was not written by trialstack; name a folder that `{called('train')}` made"
        )
    return checkpoint


_ARGUMENTS = {"spec", "model", "optimizer", "schedule", "loss", "metrics", "seed"}
"""Of a Classifier."""


def arguments(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a checkpoint's Classifier; none if it has none."""
    found = checkpoint.get(MADE_OF, checkpoint.get("hyper_parameters"))
    return found if isinstance(found, dict) else {}


def load(path: Path, mmap: bool = False) -> Any:
    """Return what is in a checkpoint, its tensors on the CPU, without running code from the file.

    Args:
        path: the file.
        mmap: read tensors only when they are used.

    Raises:
        UserError: there is none, or it is damaged.
    """
    try:
        opened(path).close()
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except FileNotFoundError:
        if path.with_name(layout.STACK.name).exists():
            folder = path.parent.parent
            raise UserError(
                f"{path} does not exist yet: the trial trains in a stack, or was stopped there; "
                f"the same sweep, or `{called('train')} resume={folder}`, goes on"
            ) from None
        raise UserError(
            f"{path} does not exist; the run ended before its first epoch: train it anew"
        ) from None
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise UserError(
            f"{path} is damaged or no checkpoint ({type(error).__name__}); restore it from a copy, "
            "or train anew"
        ) from error
