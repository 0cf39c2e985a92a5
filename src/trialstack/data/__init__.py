"""Datasets: from files to minibatches on the device.

What datasets of one's own need is here by its short name.
"""

from trialstack.data.cifar import CIFAR10
from trialstack.data.datamodule import (
    EMNIST,
    KMNIST,
    MNIST,
    Arrays,
    Digits,
    FashionMNIST,
    ImageDataModule,
)

__all__ = [
    "CIFAR10",
    "EMNIST",
    "KMNIST",
    "MNIST",
    "Arrays",
    "Digits",
    "FashionMNIST",
    "ImageDataModule",
]
