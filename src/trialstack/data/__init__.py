"""Datasets: from files to minibatches on the device.

What datasets of one's own need is here by its short name.
"""

from trialstack.data.datamodule import MNIST, Arrays, Digits, FashionMNIST, ImageDataModule

__all__ = ["MNIST", "Arrays", "Digits", "FashionMNIST", "ImageDataModule"]
