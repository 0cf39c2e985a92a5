"""How far a trial has come: its history, its best epoch, and what it goes on from."""

from collections.abc import Sequence
from typing import Any

from lightning.pytorch.callbacks import Callback, EarlyStopping

from trialstack.core.errors import UserError
from trialstack.run.checkpoints import BestEpoch
from trialstack.run.history import History
from trialstack.run.stack_file import StackFile
from trialstack.run.trial import Trial


class State:
    """What a trial keeps in its checkpoints besides weights.

    Args:
        trial: the trial.
        callbacks: of its config.

    Attributes:
        until: the last epoch that is asked for, before `max_epochs` at a rung.
        history: of its epochs.
        best: its best epoch.
        ended: why the training ended before its last epoch, None if it did not.
        stopping: its EarlyStopping callbacks.
        checkpoint: to go on from, None for a start from the beginning.
        stack: whose checkpoint that is, None if it is the trial's own.
        position: in that stack.
        earlier: the trial's share of the seconds of the epochs of sessions before.
    """

    def __init__(self, trial: Trial, callbacks: Sequence[Callback]) -> None:
        self.folder = trial.folder
        self.max_epochs = trial.config.trainer.max_epochs
        self.until = trial.until or self.max_epochs
        self.history = History(trial.folder)
        self.best = BestEpoch(trial.folder, trial.config.objective)
        self.ended: str | None = None
        self.stopping = [callback for callback in callbacks if isinstance(callback, EarlyStopping)]
        self.checkpoint: dict[str, Any] | None = None
        self.stack: StackFile | None = None
        self.position = 0
        self.earlier = 0.0

    def go_on(
        self, checkpoint: dict[str, Any], stack: StackFile | None = None, position: int = 0
    ) -> None:
        """Take what there is from `checkpoint`: at once, so that result.json has it, however soon
        this ends.

        Args:
            checkpoint: the run's, or what a stack's checkpoint has of it besides weights.
            stack: whose it is in the latter case.
            position: in that stack.

        Raises:
            UserError: it has more epochs than `trainer.max_epochs`.
        """
        self.checkpoint, self.stack, self.position = checkpoint, stack, position
        kept = checkpoint["callbacks"]
        self.history.load_state_dict(kept["History"])
        self.best.load_state_dict(kept["BestAndLast"])
        self.ended = kept["BestAndLast"]["ended"]
        for callback in self.stopping:
            if callback.state_key in kept:
                callback.load_state_dict(kept[callback.state_key])
        self.earlier = self.history.spent
        if self.epochs > self.max_epochs:
            raise UserError(
                f"trainer.max_epochs >= {self.epochs} must hold (epochs that the run has "
                f"finished), got {self.max_epochs}"
            )

    def of_callbacks(self) -> dict[str, Any]:
        """Return what the callbacks of a trial that trains alone have in its checkpoint."""
        return {
            "History": self.history.state_dict(),
            "BestAndLast": {**self.best.state_dict(), "ended": self.ended},
            **{callback.state_key: callback.state_dict() for callback in self.stopping},
        }

    @property
    def epochs(self) -> int:
        """Finished ones of the checkpoint."""
        return 0 if self.checkpoint is None else int(self.checkpoint["epoch"]) + 1

    @property
    def is_trained(self) -> bool:
        """Whether the checkpoint is of the last epoch that is asked for, or a later one: the run
        was killed before it had its result, or is asked how it was at a rung.
        """
        return self.ended is not None or self.epochs >= self.until
