"""Cross-entropy of one network.

Shapes: B samples in a minibatch, C classes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy


class CrossEntropyLoss(nn.Module):
    """torch.nn.CrossEntropyLoss, whose weights are arguments and no part of a network's state.

    Args:
        label_smoothing: part of the target that all classes share.
        class_weights: [C], of samples by their class, in the mean over a minibatch; None if all
            weigh the same.
    """

    def __init__(
        self, label_smoothing: float = 0.0, class_weights: Sequence[float] | None = None
    ) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        self.weights_C = (
            None if class_weights is None else torch.tensor(class_weights, dtype=torch.float64)
        )

    def forward(self, logits_BC: Tensor, labels_B: Tensor) -> Tensor:
        weights_C = self.weights_C
        return cross_entropy(
            logits_BC,
            labels_B,
            weight=None if weights_C is None else weights_C.to(logits_BC.device, logits_BC.dtype),
            label_smoothing=self.label_smoothing,
        )
