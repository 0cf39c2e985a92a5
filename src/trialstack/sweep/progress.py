"""How far a sweep is: a bar on a terminal or in a notebook, elsewhere a line now and then."""

import logging
import math
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from tqdm.auto import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from trialstack.core.objective import improves
from trialstack.engine.protocol import trains_trials

log = logging.getLogger(__name__)

SILENCE = 30.0
"""Seconds at least between two lines where there is no terminal."""


class SweepBar(Callback):
    """One bar for all stacks: trials done, the epoch that runs, samples a second over all trials,
    best so far.

    Attributes:
        done: trials that have ended.
        rung: what is said of the rung that trials are trained to.

    Args:
        name: of the sweep.
        trials: how many will be trained.
        trial_epochs: sum of their epochs.
        objective: of the sweep.
    """

    def __init__(self, name: str, trials: int, trial_epochs: int, objective: str) -> None:
        self.trials = trials
        self.objective = objective
        self.best: float | None = None
        self.done = 0
        self.rung = ""
        self._finished = 0
        self._first = 0
        self._samples = 0
        self._began = self._said = time.perf_counter()
        self._bar = tqdm(
            total=trial_epochs,
            desc=name,
            bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}",
            dynamic_ncols=True,
            leave=False,
            disable=None,
        )

    @property
    def shown(self) -> bool:
        """Whether there is a terminal, or a notebook."""
        return not self._bar.disable

    def below_messages(self) -> AbstractContextManager[None]:
        """Have messages stand above the bar, not in it."""
        return logging_redirect_tqdm() if self.shown else nullcontext()

    def advance(self, trial_epochs: int) -> None:
        """Count so many epochs of trials as done, however their training ended."""
        self._finished += trial_epochs
        self._move(self._finished, "")
        self._bar.refresh()

    def close(self) -> None:
        self._bar.close()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._first = trainer.current_epoch

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        module = trains_trials(trainer, pl_module)
        trials = len(module.trial_metrics)
        self._samples += trials * module.samples_in(batch)
        part = (batch_idx + 1) / int(trainer.num_training_batches)
        epochs = trainer.current_epoch - self._first + part
        self._move(
            self._finished + trials * epochs,
            f", epoch {trainer.current_epoch + 1}/{trainer.max_epochs}",
        )

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trials = trains_trials(trainer, pl_module).trial_metrics
        self.measured([trial.get(self.objective, math.nan) for trial in trials])
        self._break_silence(f", epoch {trainer.current_epoch + 1}/{trainer.max_epochs}")

    def measured(self, scores: Sequence[float]) -> None:
        """Take note of objectives of an epoch."""
        for score in scores:
            self.best = score if improves(score, self.best, self.objective) else self.best

    def trained(self, trial_epochs: int) -> None:
        """Show so many epochs of trials as done in stacks that have not ended."""
        self._move(self._finished + trial_epochs, "")
        self._break_silence("")

    def _break_silence(self, epoch: str) -> None:
        now = time.perf_counter()
        if not self.shown and now - self._said >= SILENCE:
            self._said = now
            log.info(self._text(epoch))

    def _move(self, trial_epochs: float, epoch: str) -> None:
        self._bar.set_postfix_str(self._text(epoch), refresh=False)
        self._bar.update(trial_epochs - self._bar.n)

    def _text(self, epoch: str) -> str:
        seconds = time.perf_counter() - self._began
        rate = f", {tqdm.format_sizeof(self._samples / seconds)} samples/s" if self._samples else ""
        best = "" if self.best is None else f", best {self.objective} {self.best:.4f}"
        return f"{self.done}/{self.trials} trials{self.rung}{epoch}{rate}{best}"
