"""The loop that the rivals search with: PyTorch over tensors in memory, with its fused SGD."""

import os
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.search.space import Candidate
from benchmarks.task import BATCH_SIZE, TASKS, VALIDATION
from benchmarks.torch_loop import network
from trialstack.data.datamodule import FashionMNIST


@cache
def samples() -> tuple[Tensor, Tensor]:
    """Return Fashion-MNIST's images [n, 784] in 0..1, as `data=fashion` has them, and labels [n],
    from `DATA_ROOT`.
    """
    data = FashionMNIST(os.environ["DATA_ROOT"], download=False).read()
    images = torch.tensor(data.train_images).flatten(1).float() / 255
    return images, torch.tensor(data.train_labels).long()


def _as_ours(module: nn.Module) -> None:
    """The initial weights of `model=mlp300`, which decide on accuracies too."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)


class Training:
    """One candidate's.

    Args:
        candidate: its settings.
        seed: of weights and order.
    """

    def __init__(self, candidate: Candidate, seed: int) -> None:
        self.images, self.labels = samples()
        self.random = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)
        self.model: nn.Module = network(TASKS["mlp300"]).apply(_as_ours)
        self.optimizer = torch.optim.SGD(self.model.parameters(), **candidate._asdict(), fused=True)

    def epoch(self) -> float:
        """Train an epoch; return the accuracy in validation."""
        count = len(self.labels) - VALIDATION
        order = torch.randperm(count, generator=self.random) + VALIDATION
        for index in order.split(BATCH_SIZE):
            self.optimizer.zero_grad()
            cross_entropy(self.model(self.images[index]), self.labels[index]).backward()
            self.optimizer.step()
        with torch.inference_mode():
            logits = self.model(self.images[:VALIDATION])
            return float((logits.argmax(1) == self.labels[:VALIDATION]).double().mean())
