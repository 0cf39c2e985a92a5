"""What every rival trains: one of the two articles' networks, on its dataset or on random images of
its shape.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

BATCH_SIZE = 32
VALIDATION = 5000
PRODUCT_SIZE = 2048
"""Of the square matrices whose product is this machine's peak."""


@dataclass(frozen=True)
class Task:
    """A network and its recipe.

    Attributes:
        name: as in RESULTS.md.
        hidden: widths of the hidden layers.
        dropout: after each of them.
        optimizer: `sgd` (lr 0.01) or `adam` (lr 0.001, eps 1e-7).
        dataset: option of the `data` group.
        samples: of the training set, validation included; fewer for a trial run.
        epochs: that will be asked for.
        folder: of its arrays.
    """

    name: str
    hidden: tuple[int, ...]
    dropout: float
    optimizer: str
    dataset: str
    samples: int = 60_000
    epochs: int = 4
    folder: Path = Path()

    @property
    def widths(self) -> tuple[int, ...]:
        return (784, *self.hidden, 10)

    @property
    def flop(self) -> float:
        """Floating-point operations of an epoch's products: forward, gradients of weights,
        gradients of inputs.
        """
        products = [
            inputs * outputs for inputs, outputs in zip(self.widths, self.widths[1:], strict=False)
        ]
        return 2.0 * (2 * sum(products) + sum(products[1:])) * (self.samples - VALIDATION)


TASKS = {
    "mlp300": Task("mlp300", (300, 100), 0.0, "sgd", "fashion"),
    "mlp128": Task("mlp128", (128,), 0.2, "adam", "mnist"),
}


def prepare(task: Task) -> str:
    """Write the arrays into the task's folder; return what they are: the dataset in `DATA_ROOT`, or
    random images.
    """
    if "DATA_ROOT" in os.environ:
        from trialstack.data.datamodule import (
            MNIST,
            FashionMNIST,
        )  # and torch, which Keras' process must not load

        kind = {"fashion": FashionMNIST, "mnist": MNIST}[task.dataset]
        data = kind(os.environ["DATA_ROOT"], download=False).read()
        images, labels, name = (
            data.train_images[: task.samples],
            data.train_labels[: task.samples],
            kind.dataset,
        )
    else:
        generator = np.random.default_rng(1)
        images = generator.integers(0, 256, (task.samples, 28, 28), dtype=np.uint8)
        labels, name = generator.integers(0, 10, task.samples, dtype=np.uint8), "random images"
    np.save(task.folder / "images.npy", images)
    np.save(task.folder / "labels.npy", labels)
    return name


def arrays(task: Task) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return images uint8 [n, 28, 28] and labels [n]."""
    return np.load(task.folder / "images.npy"), np.load(task.folder / "labels.npy")


def unit_arrays(task: Task) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return images [n, 784] in 0..1 and labels [n]."""
    images, labels = arrays(task)
    return images.reshape(len(images), -1).astype(np.float32) / np.float32(255), labels.astype(
        np.int64
    )
