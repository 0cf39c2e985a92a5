"""Writes the checkpoints of a single trial while it trains."""

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from trialstack.engine.protocol import trains_trials
from trialstack.run.checkpoints import copy
from trialstack.run.early_end import early_end
from trialstack.run.state import State
from trialstack.run.timing import Timing


class BestAndLast(Checkpoint):
    """Writes a single trial's `last.ckpt` after every epoch, and `best.ckpt` when the objective is
    better than ever.

    Lightning's ModelCheckpoint forgets the best score when a run folder has moved.

    Args:
        state: of the trial; `ended` is set to why an epoch before the last one was the last one.
        timing: gets the time that this takes.
    """

    def __init__(self, state: State, timing: Timing) -> None:
        self.state = state
        self.best = state.best
        self.timing = timing

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        [measured] = trains_trials(trainer, pl_module).trial_metrics
        improved = self.best.improves(measured, trainer.current_epoch + 1)
        self.state.ended = early_end(trainer)
        with self.timing.measure("checkpoints"):
            # The best one first: a run that is killed before the last one is written makes this
            # epoch again.
            trainer.save_checkpoint(self.best.best_file if improved else self.best.last_file)
            if improved and trainer.is_global_zero:
                copy(self.best.best_file, self.best.last_file)

    def state_dict(self) -> dict[str, Any]:
        return {**self.best.state_dict(), "ended": self.state.ended}

    @property
    def state_key(self) -> str:
        return "BestAndLast"
