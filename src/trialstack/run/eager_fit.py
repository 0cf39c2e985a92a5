"""The fit of one run on the eager engine: plain Lightning."""

from collections.abc import Sequence
from typing import Any

from trialstack.data.datamodule import ImageDataModule
from trialstack.engine.eager import Classifier
from trialstack.engine.stacked import StackedClassifier
from trialstack.run.fit import Fit


class EagerFit(Fit):
    """Trains one run."""

    engine = "eager"

    def capacity(self, data: ImageDataModule) -> int:
        return 1

    def module(self, classifiers: Sequence[Classifier], data: ImageDataModule) -> Classifier:
        classifiers[0].epochs = self.config.trainer.epochs
        return classifiers[0]

    def loaders(
        self, module: Classifier | StackedClassifier, data: ImageDataModule
    ) -> dict[str, Any]:
        return {"datamodule": data}
