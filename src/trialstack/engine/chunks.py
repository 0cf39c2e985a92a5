"""Chunks: the minibatches of several optimizer steps, as sample numbers that the stack gathers
itself.

Shapes: R different seeds, K minibatches in a chunk, B samples in a minibatch.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from trialstack.data.minibatches import epoch_order


class ShuffledChunks:
    """One epoch of `index_RKB`, in the orders that `ShuffledMinibatches` has for these seeds.

    An incomplete last minibatch is a chunk by itself. Lightning moves this from epoch to epoch
    through `set_epoch`.

    Args:
        samples: how many there are to train on.
        batch_size: samples in a minibatch.
        seeds: different ones, R.
        steps: optimizer steps in an epoch, no more than there are minibatches.
        steps_per_execution: minibatches in a chunk; the last one may have fewer.
        device: of the chunks.
    """

    def __init__(
        self,
        samples: int,
        batch_size: int,
        seeds: Sequence[int],
        steps: int,
        steps_per_execution: int,
        device: torch.device,
    ) -> None:
        self.samples = samples
        self.batch_size = batch_size
        self.seeds = seeds
        self.steps = steps
        self.steps_per_execution = steps_per_execution
        self.device = device
        self.complete_steps = min(steps, samples // batch_size)
        self.epoch = 0

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
        orders = [
            epoch_order(self.samples, seed, self.epoch)[: self.steps * self.batch_size]
            for seed in self.seeds
        ]
        order = torch.stack(orders).to(self.device)
        complete, last = order.tensor_split([self.complete_steps * self.batch_size], dim=1)
        if self.complete_steps:
            yield from complete.view(len(orders), -1, self.batch_size).split(
                self.steps_per_execution, dim=1
            )
        if last.numel():
            yield last[:, None]
