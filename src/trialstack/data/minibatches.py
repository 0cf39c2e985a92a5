"""Minibatches gathered on the device, in an order drawn from `(seed, epoch)`.

Shapes: n samples, B samples in a minibatch; images are [n, channels, height, width].
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from trialstack.core.random_streams import stream

Batch = tuple[Tensor, Tensor]


class Samples(NamedTuple):
    """Normalized float32 images [n, channels, height, width] and int64 labels [n], on one
    device.
    """

    images: Tensor
    labels: Tensor

    def to(self, device: torch.device) -> "Samples":
        return Samples(self.images.to(device), self.labels.to(device))


def epoch_order(samples: int, seed: int, epoch: int) -> Tensor:
    """Return a permutation of `samples` indices, int64 on the CPU: the same on every device and
    machine.
    """
    generator = torch.Generator().manual_seed(stream(seed, epoch))
    return torch.randperm(samples, generator=generator)


def share(minibatch: Tensor, rank: int, world_size: int) -> Tensor:
    """Return a process's part of a minibatch [B]; all parts are equally long, the first samples
    filling the last.
    """
    if world_size == 1:
        return minibatch
    length = -(-len(minibatch) // world_size)
    positions = torch.arange(rank, length * world_size, world_size, device=minibatch.device)
    return minibatch[positions % len(minibatch)]


class ShuffledMinibatches:
    """One epoch of training minibatches; Lightning moves it from epoch to epoch through
    `set_epoch`.

    Args:
        samples: the training samples.
        batch_size: samples in a minibatch, over all processes; the last one may be smaller.
        seed: the trial's.
        augment: applied to every image [channels, height, width] by itself, with randomness from
            `(seed, epoch, minibatch)`.
        rank: this process among the `world_size` that share every minibatch.
        world_size: number of processes.
    """

    def __init__(
        self,
        samples: Samples,
        batch_size: int,
        seed: int,
        augment: Callable[[Tensor], Tensor] | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.samples = samples
        self.batch_size = batch_size
        self.seed = seed
        self.augment = augment
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0

    @property
    def sampler(self) -> "ShuffledMinibatches":
        """Where Lightning looks for `set_epoch`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-len(self.samples.labels) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        images, labels = self.samples
        order = epoch_order(len(labels), self.seed, self.epoch).to(labels.device)
        for number, minibatch in enumerate(order.split(self.batch_size)):
            index = share(minibatch, self.rank, self.world_size)
            yield self._augmented(images[index], number), labels[index]

    def _augmented(self, images: Tensor, number: int) -> Tensor:
        if self.augment is None:
            return images
        with torch.random.fork_rng([images.device] if images.is_cuda else []):
            torch.manual_seed(stream(self.seed, self.epoch, number, self.rank))
            return torch.stack([self.augment(image) for image in images])


class OrderedMinibatches:
    """Evaluation minibatches of every `world_size`-th sample from `rank` on, in order; no sample is
    seen twice.
    """

    def __init__(
        self, samples: Samples, batch_size: int, rank: int = 0, world_size: int = 1
    ) -> None:
        self.images = samples.images[rank::world_size].split(batch_size)
        self.labels = samples.labels[rank::world_size].split(batch_size)

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Iterator[Batch]:
        return zip(self.images, self.labels, strict=True)
