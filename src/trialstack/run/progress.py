"""The progress bar of an epoch, on a terminal or in a notebook only."""

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from tqdm.auto import tqdm

from trialstack.engine.protocol import TrainsTrials, trains_trials
from trialstack.run.metrics_csv import metrics


class EpochBar(ProgressBar):
    """One bar for the epoch that runs: minibatches, speed, and the metrics of the epoch before.

    tqdm redraws it ten times a second at most, so that it costs next to nothing a step.
    """

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._bar: tqdm[Any] | None = None
        self._module: TrainsTrials

    def enable(self) -> None:
        self._enabled = True

    def disable(self) -> None:
        self._enabled = False

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._module = trains_trials(trainer, pl_module)
        self._bar = tqdm(
            total=self._module.minibatches,
            desc=f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}",
            unit="step",
            leave=False,
            dynamic_ncols=True,
            disable=None if self._enabled else True,
        )
        measured = trainer.progress_bar_metrics
        self._bar.set_postfix(
            {name.removeprefix("train/"): f"{measured[name]:.4f}" for name in metrics([measured])},
            False,
        )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert self._bar is not None
        self._bar.update(self._module.minibatches_in(batch))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert self._bar is not None
        self._bar.close()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        if self._bar is not None:
            self._bar.close()
