"""Chunks: the minibatches of several optimizer steps, as sample numbers that the stack gathers
itself.

Shapes: R different orders, F different folds, K minibatches in a chunk, B samples in a minibatch.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from trialstack.core.sizes import EVALUATION_BATCH
from trialstack.data.minibatches import epoch_order
from trialstack.engine import execution


class Order(NamedTuple):
    """What a trial's minibatches follow from.

    Attributes:
        seed: the trial's.
        first: number of the first sample that trains; from it on, and from the first sample of all
            after the last one, come those that train, and then those that validate.
    """

    seed: int
    first: int


def folds_of(orders: Sequence[Order]) -> list[int]:
    """Return where folds end, for each of those that there are."""
    return sorted({order.first for order in orders})


class ShuffledChunks:
    """One epoch of `index_RKB`, in the orders that `ShuffledMinibatches` has for these trials.

    An incomplete last minibatch is a chunk by itself. Lightning moves this from epoch to epoch
    through `set_epoch`.

    Args:
        samples: how many there are to train on.
        everything: how many there are with those that validate.
        batch_size: samples in a minibatch.
        orders: different ones, R.
        steps: optimizer steps in an epoch, no more than there are minibatches.
        steps_per_execution: minibatches in a chunk; the last one may have fewer.
        device: of the chunks.
    """

    def __init__(
        self,
        samples: int,
        everything: int,
        batch_size: int,
        orders: Sequence[Order],
        steps: int,
        steps_per_execution: int,
        device: torch.device,
    ) -> None:
        self.samples = samples
        self.everything = everything
        self.batch_size = batch_size
        self.orders = orders
        self.steps = steps
        self.steps_per_execution = steps_per_execution
        self.complete_steps = min(steps, samples // batch_size)
        self.epoch = 0
        self.queue = execution.on(device).queue(device)
        self._drawn: tuple[int, Tensor] | None = None

    @property
    def sampler(self) -> "ShuffledChunks":
        """Where Lightning looks for `set_epoch`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return (
            -(-self.complete_steps // self.steps_per_execution) + self.steps - self.complete_steps
        )

    def __iter__(self) -> Iterator[Tensor]:
        epoch, order = self._drawn or (None, None)
        if order is None or epoch != self.epoch:
            order = self._draw(self.epoch)
        chunks = self._chunks(order)
        yield from chunks[:-1]
        if self.queue.runs_ahead:  # while the device computes on the chunks before the last one
            self._drawn = (self.epoch + 1, self._draw(self.epoch + 1))
        yield chunks[-1]

    def _draw(self, epoch: int) -> Tensor:
        orders = [
            (epoch_order(self.samples, seed, epoch)[: self.steps * self.batch_size] + first)
            % self.everything
            for seed, first in self.orders
        ]
        return self.queue.send(torch.stack(orders))

    def _chunks(self, order: Tensor) -> list[Tensor]:
        complete, last = order.tensor_split([self.complete_steps * self.batch_size], dim=1)
        chunks: list[Tensor] = []
        if self.complete_steps:
            steps = complete.view(len(order), -1, self.batch_size)
            chunks += steps.split(self.steps_per_execution, dim=1)
        if last.numel():
            chunks.append(last[:, None])
        return chunks


class FoldedMinibatches:
    """Minibatches `index_FB` of validation of several folds at once.

    Args:
        starts: of each fold, number of the first sample.
        samples: in a fold.
        device: of the minibatches.
    """

    def __init__(self, starts: Sequence[int], samples: int, device: torch.device) -> None:
        index_FB = torch.tensor(starts).unsqueeze(1) + torch.arange(samples)
        self.minibatches = index_FB.to(device).split(EVALUATION_BATCH, dim=1)

    def __len__(self) -> int:
        return len(self.minibatches)

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.minibatches)
