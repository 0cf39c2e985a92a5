"""Datasets that are loaded once, for all stacks of a command."""

import copy
import json

from lightning.pytorch import Trainer

from trialstack.core.build import build
from trialstack.core.groups import DataConfig
from trialstack.data.augmentation import build_transforms
from trialstack.data.datamodule import ImageDataModule

DATASETS_IN_MEMORY = 2
"""Datasets in memory: 220 MB for MNIST, 740 MB for CIFAR-10."""


class Datasets:
    """Makes DataModules of configs; those that differ in `batch_size`, seed, and, where pixels do
    not depend on it, in `fold` alone share their samples.
    """

    def __init__(self) -> None:
        self._loaded: dict[str, ImageDataModule] = {}

    def load(self, config: DataConfig, seed: int, trainer: Trainer) -> ImageDataModule:
        """Return the DataModule of a `data` group, set up on the trainer's device.

        What stays here knows no trainer, which would keep what it has trained.

        Raises:
            UserError: the config is at fault, or the data is missing or damaged.
        """
        apart = {"batch_size", "fold"} if config.normalize == "unit" else {"batch_size"}
        samples = {name: value for name, value in config.values.items() if name not in apart}
        key = json.dumps([samples, str(trainer.strategy.root_device)], sort_keys=True)
        if key not in self._loaded:
            loaded = _loaded(config, seed, trainer)
            while len(self._loaded) >= DATASETS_IN_MEMORY:
                del self._loaded[next(iter(self._loaded))]
            self._loaded[key] = loaded
        data = copy.copy(self._loaded[key])
        data.batch_size, data.seed, data.trainer = config.batch_size, seed, trainer
        data.check_sizes()
        if data.fold != config.fold:
            data.split(config.fold)
        return data


def _loaded(config: DataConfig, seed: int, trainer: Trainer) -> ImageDataModule:
    augment = build_transforms(config.augment or [])
    data = build("data", config.values, ImageDataModule, augment=augment, seed=seed)
    data.trainer = trainer
    data.setup()
    data.trainer = None
    return data
