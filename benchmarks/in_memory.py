"""Lightning as in the templates, but over tensors in memory that are gathered a minibatch at a
time.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from benchmarks.gate import Gate
from benchmarks.lightning_module import fit
from benchmarks.task import BATCH_SIZE, VALIDATION, Task, unit_arrays


class Minibatches:
    """Gathered in a new random order every time."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return -(-len(self.labels) // BATCH_SIZE)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for index in torch.randperm(len(self.labels), device=self.labels.device).split(BATCH_SIZE):
            yield self.images[index], self.labels[index]


def train(task: Task, gate: Gate) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    images, labels = (torch.from_numpy(array).to(device) for array in unit_arrays(task))
    training = Minibatches(images[VALIDATION:], labels[VALIDATION:])
    fit(task, gate, training, Minibatches(images[:VALIDATION], labels[:VALIDATION]))
