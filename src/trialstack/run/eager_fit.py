"""The fit of one run on the eager engine: plain Lightning."""

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger

from trialstack.data.datamodule import ImageDataModule
from trialstack.engine.eager import Classifier
from trialstack.engine.networks import has_own
from trialstack.engine.own_module import OwnModule, plain_metrics
from trialstack.engine.protocol import TrainsTrials
from trialstack.run.evaluation import Evaluation
from trialstack.run.fit import Fit


class EagerFit(Fit):
    """Trains one run: its classifier, or the network itself if that trains itself.

    Attributes:
        own: watches such a network; None of a classifier.
    """

    engine = "eager"
    own: OwnModule | None = None

    def capacity(self, data: ImageDataModule) -> int:
        return 1

    def module(self, classifiers: Sequence[Classifier], data: ImageDataModule) -> LightningModule:
        [classifier], [state] = classifiers, self.states
        classifier.epochs = self.config.trainer.epochs
        module = classifier.own
        if module is None:
            return classifier
        last = state.history.rows[-1] if state.history.rows else None
        self.own = OwnModule(classifier, self.config.objective, last)
        if not has_own(classifier.model_group, "configure_optimizers"):
            module.configure_optimizers = lambda: classifier.configured_for(module.trainer)  # type: ignore[method-assign]
        return module

    def trained(self, module: LightningModule) -> TrainsTrials:
        return super().trained(module) if self.own is None else self.own

    def callbacks(self) -> list[Callback]:
        return [*super().callbacks(), *([] if self.own is None else [self.own])]

    def recorded_by(self, loggers: Sequence[Logger]) -> Sequence[Logger]:
        """None of what a module of its own logs: that is with the loggers already."""
        return loggers if self.own is None else ()

    def tested(
        self, best: Classifier, data: ImageDataModule
    ) -> tuple[Evaluation | None, dict[str, float]]:
        """By the module's own `test_step`, if it has one, on one device."""
        if best.own is None:
            return super().tested(best, data)
        if not has_own(best.model_group, "test_step"):
            return None, {}
        devices = self.config.trainer.devices
        one = devices[:1] if isinstance(devices, list) else 1
        trainer = self.trainer(
            logger=False, enable_checkpointing=False, devices=one, strategy="auto"
        )
        torch.manual_seed(best.seed)
        trainer.test(best.own, datamodule=data, verbose=False)
        return None, plain_metrics(trainer.callback_metrics)

    def loaders(self, module: LightningModule, data: ImageDataModule) -> dict[str, Any]:
        return {"datamodule": data}
