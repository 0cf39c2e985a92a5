"""Records every epoch of every trial, when it ends."""

import logging
import time
from collections.abc import Sequence
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loggers import Logger

from trialstack.engine.protocol import trains_trials
from trialstack.run.history import line
from trialstack.run.state import State
from trialstack.run.timing import Timing

log = logging.getLogger(__name__)


class Recorder(Checkpoint):
    """Adds a row an epoch to the history of every trial that has neither diverged nor ended.

    It is a Checkpoint because Lightning calls those after the module's own `on_train_epoch_end`,
    where the metrics are logged. A single trial's rows go into its checkpoints, so that a resumed
    run's metrics.csv has every epoch once.

    Args:
        states: of the trials.
        loggers: of a single trial, which get its epochs at once.
        timing: gets the time that this takes.
    """

    def __init__(self, states: Sequence[State], loggers: Sequence[Logger], timing: Timing) -> None:
        self.states = states
        self.loggers = loggers
        self.timing = timing
        self._began = 0.0
        self._validated = False

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._began = time.perf_counter()
        self._validated = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._validated = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trials = trains_trials(trainer, pl_module)
        seconds = round(time.perf_counter() - self._began, 4)
        with self.timing.measure("logging"):
            for index, history in enumerate(state.history for state in self.states):
                if index not in trials.diverged and index not in trials.ended:
                    metrics = {
                        name: value
                        for name, value in trials.trial_metrics[index].items()
                        if self._validated or not name.startswith("val/")
                    }
                    counts = {"epoch": trainer.current_epoch + 1, "step": trainer.global_step}
                    history.rows.append({**metrics, **counts, "seconds": seconds})
                    history.spent += seconds / len(self.states)
                    history.log(self.loggers, history.rows[-1:])
                    if trainer.is_global_zero:
                        history.write(on_disk=len(self.states) == 1)
            last = [state.history.rows[-1] for state in self.states if state.history.rows]
            of_epoch = [row for row in last if row["epoch"] == trainer.current_epoch + 1]
            if trainer.is_global_zero and of_epoch:
                log.info(line(of_epoch, self.states[0].max_epochs))

    @property
    def state_key(self) -> str:
        return "History"

    def state_dict(self) -> dict[str, Any]:
        return self.states[0].history.state_dict() if len(self.states) == 1 else {}
