"""Activations with their gradients written out, and dropout with them.

A mask has a number for each unit: 0 if it is dropped. What is kept is scaled up elsewhere, in the
products.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

_relu_backward = torch.ops.aten.threshold_backward.grad_input
_tanh_backward = torch.ops.aten.tanh_backward.grad_input
_gelu_backward = torch.ops.aten.gelu_backward.grad_input
_gelu = torch.ops.aten.gelu.out


class Activation(ABC):
    """From the values `before` it to those `after` it.

    Args:
        zero: a scalar of their dtype and device.

    Attributes:
        kept: what a mask has for a unit that is kept.
    """

    kept: ClassVar[float] = 1.0

    def __init__(self, zero: Tensor) -> None:
        self.zero = zero

    def forward(self, before: Tensor, mask: Tensor | None, after: Tensor) -> None:
        """Write `after`."""
        self.activate(before, after)
        if mask is not None:
            after.mul_(mask)

    def backward(
        self, gradient: Tensor, before: Tensor, mask: Tensor | None, after: Tensor
    ) -> None:
        """Turn the gradient after it, without that of the mask, into the one before it."""
        if mask is not None:
            gradient.mul_(mask)
        self.turn_back(gradient, before, after)

    @abstractmethod
    def activate(self, before: Tensor, after: Tensor) -> None:
        """Write `after`, without a mask."""

    @abstractmethod
    def turn_back(self, gradient: Tensor, before: Tensor, after: Tensor) -> None:
        """Multiply the gradient by the derivative, where `after` is not masked."""


class ReLU(Activation):
    """The mask is an upper bound, so that one operation does both: infinity leaves a unit as it
    is, and one that is dropped has no gradient, as one that is not active.
    """

    kept = torch.inf

    def forward(self, before: Tensor, mask: Tensor | None, after: Tensor) -> None:
        if mask is None:
            self.activate(before, after)
        else:
            torch.clamp(before, self.zero, mask, out=after)

    def backward(
        self, gradient: Tensor, before: Tensor, mask: Tensor | None, after: Tensor
    ) -> None:
        self.turn_back(gradient, before, after)

    def activate(self, before: Tensor, after: Tensor) -> None:
        torch.clamp_min(before, 0, out=after)

    def turn_back(self, gradient: Tensor, before: Tensor, after: Tensor) -> None:
        _relu_backward(gradient, after, 0, grad_input=gradient)


class Tanh(Activation):
    def activate(self, before: Tensor, after: Tensor) -> None:
        torch.tanh(before, out=after)

    def turn_back(self, gradient: Tensor, before: Tensor, after: Tensor) -> None:
        _tanh_backward(gradient, after, grad_input=gradient)


class GELU(Activation):
    def activate(self, before: Tensor, after: Tensor) -> None:
        _gelu(before, out=after)

    def turn_back(self, gradient: Tensor, before: Tensor, after: Tensor) -> None:
        _gelu_backward(gradient, before, grad_input=gradient)


ACTIVATIONS: dict[str, type[Activation]] = {"relu": ReLU, "tanh": Tanh, "gelu": GELU}
"""By the names that MLP has for them."""
