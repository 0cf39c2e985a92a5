"""The fit of several runs, or one, as a stack."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, LearningRateMonitor

from trialstack.core.sizes import epoch_steps
from trialstack.data.datamodule import ImageDataModule
from trialstack.engine.capacity import trials_that_fit
from trialstack.engine.chunks import FoldedMinibatches, Order, ShuffledChunks, folds_of
from trialstack.engine.eager import Classifier
from trialstack.engine.protocol import Outcome
from trialstack.engine.stacked import StackedClassifier
from trialstack.run.best_and_last import BestAndLast
from trialstack.run.fit import Fit
from trialstack.run.stack_checkpoint import StackCheckpoint
from trialstack.run.stack_file import StackFile
from trialstack.run.trial_ends import TrialEnds


class StackedFit(Fit):
    """Trains runs as a stack."""

    engine = "stacked"

    stack_checkpoint: StackCheckpoint | None = None

    def capacity(self, data: ImageDataModule) -> int:
        """As many as `engine.max_stack` allows or the memory holds; a stack that goes on stays as
        it was.
        """
        if self.stack is not None:
            return len(self.runs)
        return trials_that_fit([run.config for run in self.runs], data)

    def trainer(self, **own: Any) -> Trainer:
        """All chunks of an epoch: it is the minibatches in them that `limit_train_batches`
        counts.
        """
        return super().trainer(limit_train_batches=1.0, **own)

    @property
    def stack(self) -> StackFile | None:
        """What the runs go on from together, None if each has a checkpoint of its own."""
        return self.runs[0].state.stack

    def callbacks(self) -> list[Callback]:
        """Without LearningRateMonitor, which looks at the optimizer: every epoch logs `lr` as it
        is.
        """
        return [
            callback
            for callback in super().callbacks()
            if not isinstance(callback, LearningRateMonitor)
        ]

    def callbacks_of_trials(self) -> list[Callback]:
        return super().callbacks_of_trials() if self.alone else [TrialEnds(self.states)]

    def checkpoint_callback(self) -> BestAndLast | StackCheckpoint:
        if self.alone:
            return super().checkpoint_callback()
        self.stack_checkpoint = StackCheckpoint(self.states, self.timing)
        return self.stack_checkpoint

    def checkpoint_file(self) -> Path:
        return super().checkpoint_file() if self.stack is None else self.stack.file

    def outcomes(self) -> list[Outcome]:
        diverged = {} if self.stack is None else self.stack.diverged
        return [Outcome(diverged.get(state.position)) for state in self.states]

    def best_classifier(self, index: int, like: Classifier) -> Classifier | None:
        """Without reading it from a file, if this session has found it."""
        best = None if self.stack_checkpoint is None else self.stack_checkpoint.best[index]
        if best is None:
            return super().best_classifier(index, like)
        config, of_like = self.runs[index].config, self.runs[0].config
        if (config.model, config.loss) != (of_like.model, of_like.loss):
            like = Classifier(**best["hyper_parameters"])
        weights = best["state_dict"].values()  # layers are numbered otherwise with dropout
        like.load_state_dict(dict(zip(like.state_dict(), weights, strict=True)))
        return like.eval()

    def finish(self, ended: bool) -> None:
        if self.stack_checkpoint is not None:
            self.stack_checkpoint.finish(ended)
        elif self.stack is not None:
            self.stack.split()

    def close(self) -> None:
        stack = StackFile.of(self.runs[0].folder)
        if stack is not None:
            stack.remove()

    def module(self, classifiers: Sequence[Classifier], data: ImageDataModule) -> StackedClassifier:
        samples, everything = len(data.train_samples.labels), len(data.all_samples.labels)
        orders = [
            Order(run.config.seed, data.validating(everything, run.config.data.fold).stop)
            for run in self.runs
        ]
        chunks = ShuffledChunks(
            samples,
            everything,
            data.batch_size,
            sorted(set(orders)),
            steps=epoch_steps(-(-samples // data.batch_size), self.config.trainer.batches_of_epoch),
            steps_per_execution=self.config.engine.steps_per_execution,
            device=data.train_samples.labels.device,
        )
        module = StackedClassifier(
            classifiers,
            data.all_samples,
            chunks,
            orders,
            self.config.objective,
            self.config.trainer.epochs,
        )
        if self.stack is None:
            module.resumed = [
                state.checkpoint for state in self.states if state.checkpoint is not None
            ]
        return module

    def loaders(self, module: LightningModule, data: ImageDataModule) -> dict[str, Any]:
        assert isinstance(module, StackedClassifier)
        firsts, size = folds_of(module.orders), len(data.val_samples.labels)
        validation: Any = data.val_dataloader()
        if len(firsts) > 1:
            starts = [first - size for first in firsts]
            validation = FoldedMinibatches(starts, size, data.val_samples.labels.device)
        return {"train_dataloaders": module.chunks, "val_dataloaders": validation}
