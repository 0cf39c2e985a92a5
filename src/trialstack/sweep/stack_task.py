"""A stack of a sweep as a task: trials that train together, with all that this takes, in whatever
process.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trialstack.run.result import Result
from trialstack.run.trial import Trial
from trialstack.sweep.job_environment import JobEnvironment

if TYPE_CHECKING:
    from lightning.pytorch.callbacks import Callback

    from trialstack.data.cache import Datasets


@dataclass(frozen=True)
class StackTask:
    """Trials that train together.

    Attributes:
        number: of the task, from 0.
        trials: that are trained.
        environment: of the first one's job.
        trial_epochs: epochs that are left to train, of all of them.
    """

    number: int
    trials: Sequence[Trial]
    environment: JobEnvironment
    trial_epochs: int

    def train(
        self, observers: Sequence[Callback], datasets: Datasets, is_held: bool = False
    ) -> list[Result]:
        """Train the trials in this process.

        Args:
            observers: callbacks of every Trainer.
            datasets: that are loaded.
            is_held: another process holds the sweep's folder.

        Raises:
            UserError: the input is at fault, or the disk is full (`CannotWrite`).
            Interrupted: the trials can be trained on.
        """
        from trialstack.run.train import train

        alone = len(self.trials) == 1
        with self.environment.logging() if alone else nullcontext(), self.environment.active():
            return train(self.trials, observers, datasets, is_held)
