"""Checkpoints: `best.ckpt` and `last.ckpt` in a run folder, written whole or not at all, and read back."""

import math
import shutil
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from trialstack.atomic import replaced
from trialstack.classifier import Classifier
from trialstack.errors import UserError
from trialstack.objective import improves


class BestAndLast(Checkpoint):
    """Writes `last.ckpt` after every epoch, and `best.ckpt` when the objective is better than ever before.

    Lightning's ModelCheckpoint moves its file from the system's temporary folder into place, which is not atomic
    where that is another file system; and it forgets the best score when a run folder has moved.
    """

    def __init__(self, folder: Path, objective: str) -> None:
        self.best = folder / "checkpoints" / "best.ckpt"
        self.last = folder / "checkpoints" / "last.ckpt"
        self.objective = objective
        self.best_score: float | None = None
        self.best_epoch: int | None = None

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, Classifier)
        score = pl_module.measured.get(self.objective, math.nan)
        improved = improves(score, self.best_score, self.objective)
        if improved:
            self.best_score, self.best_epoch = score, trainer.current_epoch + 1
        self._save(trainer, improved)

    def _save(self, trainer: Trainer, improved: bool) -> None:
        with replaced(self.last, trainer.is_global_zero) as temporary:
            trainer.save_checkpoint(temporary)
            if improved and trainer.is_global_zero:
                with replaced(self.best) as best:
                    shutil.copyfile(temporary, best)

    def state_dict(self) -> dict[str, Any]:
        return {"best_score": self.best_score, "best_epoch": self.best_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best_score, self.best_epoch = state_dict["best_score"], state_dict["best_epoch"]


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return a Classifier's checkpoint, its tensors on the CPU, without running code from the file.

    Raises:
        UserError: there is none, it is damaged, or something else wrote it.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; the run ended before its first epoch: train it anew") from None
    except Exception as error:
        raise UserError(
            f"{path} is damaged or no checkpoint ({type(error).__name__}); restore it from a copy, or train anew"
        ) from error
    expected = {"spec", "model", "optimizer", "schedule", "seed"}
    if not isinstance(checkpoint, dict) or set(checkpoint.get("hyper_parameters", ())) != expected:
        raise UserError(f"{path} was not written by trialstack; name a folder that `python train.py` made")
    return checkpoint
