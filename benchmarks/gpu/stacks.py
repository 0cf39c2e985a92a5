"""Stacks on random images, for checks.

Shapes: S trials in a stack, n samples, P numbers of a trial.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trialstack.data.minibatches import Samples
from trialstack.engine import execution
from trialstack.engine.chunks import Order, ShuffledChunks
from trialstack.engine.losses import CrossEntropyLoss
from trialstack.engine.mlp_stack import Stack
from trialstack.engine.models import MLP

PIXELS, CLASSES = 784, 10

SGD: Mapping[str, Any] = {"_target_": "torch.optim.SGD", "lr": 0.05}
OPTIMIZERS: dict[str, Mapping[str, Any]] = {
    "sgd": SGD,
    "momentum": {**SGD, "momentum": 0.9},
    "nesterov": {**SGD, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
    "adam": {"_target_": "torch.optim.Adam", "lr": 0.001, "weight_decay": 0.01},
    "adamw": {"_target_": "torch.optim.AdamW", "lr": 0.001, "weight_decay": 0.01},
    "rmsprop": {"_target_": "torch.optim.RMSprop", "lr": 0.001, "momentum": 0.9},
    "adagrad": {"_target_": "torch.optim.Adagrad", "lr": 0.01, "weight_decay": 0.01},
}


@dataclass(frozen=True)
class Setup:
    """Trials that train together.

    Attributes:
        optimizer: of `OPTIMIZERS`.
        rates: learning rates, S.
        hidden: widths of the hidden layers, of every trial.
        dropouts: of every trial.
        seeds: of every trial; 1 for all by default.
        activation: of all.
        dtype: of weights.
        steps: in a chunk.
    """

    optimizer: str = "sgd"
    rates: Sequence[float] = (0.05,)
    hidden: Sequence[Sequence[int]] = ((24, 17),)
    dropouts: Sequence[float] = (0.0,)
    seeds: Sequence[int] = field(default=())
    activation: str = "relu"
    dtype: torch.dtype = torch.float64
    steps: int = 8

    def of(self, index: int) -> "Setup":
        """Return one of the trials by itself."""
        own = {
            "rates": [self.rates[index]],
            "hidden": [self.hidden[index]],
            "dropouts": [self.dropouts[index]],
            "seeds": [(self.seeds or [1] * len(self.rates))[index]],
        }
        return Setup(**{**vars(self), **own})


def samples(count: int, device: torch.device) -> Samples:
    """Return random images, the same on every device."""
    generator = torch.Generator().manual_seed(count)
    images = torch.rand(count, 1, 28, 28, generator=generator)
    labels = torch.randint(CLASSES, (count,), generator=generator)
    return Samples(images, labels).to(device)


def build(setup: Setup, data: Samples) -> Stack:
    seeds = setup.seeds or [1] * len(setup.rates)
    networks = []
    for seed, hidden, dropout in zip(seeds, setup.hidden, setup.dropouts, strict=True):
        torch.manual_seed(seed)
        networks.append(MLP((1, 28, 28), CLASSES, list(hidden), dropout, setup.activation))
    groups = [{**OPTIMIZERS[setup.optimizer], "lr": rate} for rate in setup.rates]
    return Stack(networks, seeds, groups, [CrossEntropyLoss()] * len(seeds), data, setup.dtype)


class Trained:
    """A stack with the chunks that it trains on.

    Args:
        setup: of the trials.
        data: to train and validate on.
        batch_size: samples in a minibatch.
    """

    def __init__(self, setup: Setup, data: Samples, batch_size: int = 32) -> None:
        self.setup = setup
        self.stack = build(setup, data)
        self.data = data
        self.batch_size = batch_size
        seeds = setup.seeds or [1] * len(setup.rates)
        orders = [Order(seed, 0) for seed in seeds]
        different = sorted(set(orders))
        count, device = len(data.labels), data.labels.device
        self.chunks = ShuffledChunks(
            count, count, batch_size, different, -(-count // batch_size), setup.steps, device
        )
        shared = len(different) == 1
        self.rows = torch.tensor(
            [different.index(order) for order in orders[: 1 if shared else None]]
        )
        self.rows = self.rows.to(device)
        self.epochs = 0

    def train(self, epochs: int) -> list[list[float]]:
        """Train on, with validation after every epoch; return each epoch's losses."""
        losses = []
        for _ in range(epochs):
            self.begin_epoch()
            start = 0
            for index_RKB in self.chunks:
                self.stack.train_chunk(index_RKB[self.rows], start)
                start += index_RKB.shape[1]
            images = self.data.images.flatten(1).to(self.setup.dtype)
            for part, labels in zip(images.split(1000), self.data.labels.split(1000), strict=True):
                self.stack.validate(part, labels)
            for totals in (self.stack.train_totals, self.stack.val_totals):
                losses.append(totals.finish()[0])
        return losses

    def begin_epoch(self) -> None:
        self.chunks.set_epoch(self.epochs)
        steps = self.chunks.steps
        rates_KS = np.tile(np.asarray(self.setup.rates), (steps, 1))
        self.stack.begin_epoch(rates_KS, self.epochs * steps, self.epochs, self.batch_size)
        self.epochs += 1

    def weights(self, index: int) -> Tensor:
        """Return a trial's parameters in one row, float64 on the CPU."""
        read = self.stack.packing.read(self.stack.parameters, index)
        return torch.cat([tensor.flatten().double() for tensor in read])


def apart(one: Tensor, other: Tensor) -> float:
    """Return the norm of a difference, relative to the norm; infinite if it is not finite."""
    difference = float((one - other).norm() / other.norm())
    return difference if difference == difference else float("inf")


@contextmanager
def called(device: torch.device) -> Iterator[None]:
    """Call a chunk's function where it would be replayed, with the branches of a GPU."""
    name = "CUDA" if device.type == "cuda" else "CPU"
    before = getattr(execution, name)
    queue = before.queue
    setattr(execution, name, execution.CUDA._replace(captures=_calls, queue=queue))
    try:
        yield
    finally:
        setattr(execution, name, before)


def _calls() -> Callable[..., Callable[[], None]]:
    return lambda function, tensors: lambda: function(*tensors)
