"""Losses and accuracies, summed up on the device.

Shapes: S trials in a stack, B samples in a minibatch, C classes.
"""

import torch
from torch import Tensor

from trialstack.engine.shortest import shortest
from trialstack.engine.stacked_loss import StackedLoss


class Totals:
    """Sums of loss and of correct classifications, by trial, kept on the device until they are
    asked for.

    Args:
        loss: of the trials.
        like: a tensor of the device and type of logits.
    """

    def __init__(self, loss: StackedLoss, like: Tensor) -> None:
        self.loss, self.size = loss, loss.size
        self.loss_S = torch.zeros(self.size, device=like.device, dtype=torch.float64)
        self.correct_S = torch.zeros(self.size, device=like.device, dtype=torch.int64)
        self.samples = 0
        self.dtype = like.dtype

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Add logits [..., S, C, B] and labels [..., S, B]; the caller counts `samples`."""
        losses = self.loss.values(logits, labels)
        correct = logits.max(-2).indices == labels
        self.loss_S += losses.sum(-1, dtype=torch.float64).view(-1, self.size).sum(0)
        self.correct_S += correct.sum(-1).view(-1, self.size).sum(0)

    def finish(self) -> tuple[list[float], list[float]]:
        """Return mean losses [S] and accuracies [S] over the samples, and start anew."""
        means = [
            (total.double() / self.samples).to(self.dtype)
            for total in (self.loss_S, self.correct_S)
        ]
        losses, accuracies = ([shortest(scalar) for scalar in mean.cpu()] for mean in means)
        self.loss_S.zero_()
        self.correct_S.zero_()
        self.samples = 0
        return losses, accuracies
