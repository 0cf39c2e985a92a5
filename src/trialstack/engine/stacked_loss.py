"""Cross-entropy of a stack: its values, and its gradient written out.

With the weights w of classes and the smoothing e of its trial, a sample of class y has the targets
t_c = w_c ((1 - e) [c = y] + e / C) and the loss -sum_c t_c log p_c. The gradient of that by the
logits is p sum_c t_c - t. The mean over a minibatch is over the sum of its w_y, as that of
torch.nn.CrossEntropyLoss.

Shapes: S trials in a stack, K optimizer steps in a chunk, B samples in a minibatch, C classes.
Labels that all trials share may have 1 in the place of S.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from trialstack.engine.losses import CrossEntropyLoss


class StackedLoss:
    """The losses of S trials.

    Args:
        losses: of each trial.
        classes: C.
        like: a tensor of the device and type of logits.
    """

    def __init__(self, losses: Sequence[CrossEntropyLoss], classes: int, like: Tensor) -> None:
        self.size = len(losses)
        self.classes_C1 = torch.arange(classes, device=like.device).unsqueeze(1)
        smoothings = [loss.label_smoothing for loss in losses]
        self.hit_S11 = self.miss_S11 = self.weights_SC = None
        if any(smoothings):
            smoothing_S11 = torch.tensor(smoothings, dtype=torch.float64).view(-1, 1, 1)
            self.miss_S11 = (smoothing_S11 / classes).to(like)
            self.hit_S11 = (1 - smoothing_S11).to(like)
        if any(loss.weights_C is not None for loss in losses):
            ones_C = torch.ones(classes, dtype=torch.float64)
            weights_SC = torch.stack(
                [ones_C if loss.weights_C is None else loss.weights_C for loss in losses]
            )
            self.weights_SC = weights_SC.to(like)

    def targets(self, labels: Tensor, scale_KS: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return what the gradients of the logits are made of, scaled as those are: softmax times
        factors, plus targets.

        Args:
            labels: [K, S, B].
            scale_KS: of each step's gradients of the mean over its samples.

        Returns:
            Targets [K, S, C, B], negative, and factors [K, S, 1, B]; None if those are `scale_KS`.
        """
        scale_KS11 = scale_KS[..., None, None]
        hits_KSCB = labels.unsqueeze(-2) == self.classes_C1
        if self.weights_SC is None:
            return self._shares(hits_KSCB) * -scale_KS11, None
        shares_KSCB = self._weighted(self._shares(hits_KSCB))
        scale_KS1B = scale_KS11 * self._over_weights(labels).unsqueeze(-2)
        return shares_KSCB * -scale_KS1B, shares_KSCB.sum(-2, keepdim=True) * scale_KS1B

    def values(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the samples' losses [..., S, B], whose mean is that of the minibatch.

        Args:
            logits: [..., S, C, B].
            labels: [..., S, B].
        """
        if self.hit_S11 is None and self.weights_SC is None:
            losses = cross_entropy(logits.flatten(0, -3), labels.flatten(0, -2), reduction="none")
            return losses.view(labels.shape)
        shares = self._weighted(self._shares(labels.unsqueeze(-2) == self.classes_C1))
        losses = -(shares * logits.log_softmax(-2)).sum(-2)
        return losses if self.weights_SC is None else losses * self._over_weights(labels)

    def _shares(self, hits: Tensor) -> Tensor:
        """Targets without weights."""
        if self.hit_S11 is None or self.miss_S11 is None:
            return hits
        return hits * self.hit_S11 + self.miss_S11

    def _weighted(self, shares: Tensor) -> Tensor:
        return shares if self.weights_SC is None else shares * self.weights_SC.unsqueeze(-1)

    def _over_weights(self, labels: Tensor) -> Tensor:
        """Samples of a minibatch over the sum of their weights, [..., S, 1]."""
        assert self.weights_SC is not None
        labels = labels.expand(*labels.shape[:-2], self.size, labels.shape[-1])
        weights = self.weights_SC.expand(*labels.shape[:-1], -1).gather(-1, labels)
        return labels.shape[-1] / weights.sum(-1, keepdim=True)
