"""When each trial of a stack ends: where it would end if it trained alone."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, EarlyStopping

from trialstack.engine.stacked import StackedClassifier
from trialstack.run.early_end import early_end
from trialstack.run.state import State


class TrialEnds(Checkpoint):
    """Ends a trial when its own EarlyStopping does, or the training of all; and the training with
    its last trial.

    It is a Checkpoint because Lightning calls those after the module's own `on_train_epoch_end`. It
    follows the Recorder, so that the epoch in which a trial ends is its last row, and comes before
    what writes checkpoints.

    Args:
        states: of the trials; `ended` is set to the reason.
    """

    def __init__(self, states: Sequence[State]) -> None:
        self.states = states
        self._seen: list[_Seen] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._seen = [_Seen(trainer, state) for state in self.states]
        for seen in self._seen:
            seen.call(lambda callback, of_trial: callback.setup(of_trial, pl_module, stage))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, StackedClassifier)
        for index in pl_module.training_trials():
            self._seen[index].measure(pl_module.trial_metrics[index])
            self._seen[index].call(
                lambda callback, of_trial: callback.on_validation_end(of_trial, pl_module)
            )

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, StackedClassifier)
        for index in pl_module.training_trials():
            self._seen[index].measure(pl_module.trial_metrics[index])
            self._seen[index].call(
                lambda callback, of_trial: callback.on_train_epoch_end(of_trial, pl_module)
            )
            self.states[index].ended = self._seen[index].early_end()
            if self.states[index].ended is not None:
                pl_module.ended.add(index)
        if not pl_module.training_trials():
            trainer.should_stop = True


class _Seen:
    """The Trainer of a stack as the callbacks of one of its trials see it: with its metrics, and a
    stop of its own.
    """

    def __init__(self, trainer: Trainer, state: State) -> None:
        self.trainer = trainer
        self.early_stopping_callbacks = state.stopping
        self.callback_metrics: dict[str, torch.Tensor] = {}
        self._stops = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.trainer, name)

    @property
    def should_stop(self) -> bool:
        return self._stops or self.trainer.should_stop

    @should_stop.setter
    def should_stop(self, stops: bool) -> None:
        self._stops = stops

    def measure(self, metrics: dict[str, float]) -> None:
        self.callback_metrics = {name: torch.tensor(value) for name, value in metrics.items()}

    def call(self, hook: Callable[[EarlyStopping, Trainer], None]) -> None:
        for callback in self.early_stopping_callbacks:
            hook(callback, cast(Trainer, self))

    def early_end(self) -> str | None:
        return early_end(cast(Trainer, self))
