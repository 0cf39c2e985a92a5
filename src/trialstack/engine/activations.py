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
_silu_backward = torch.ops.aten.silu_backward.grad_input
_silu = torch.ops.aten.silu.out
_leaky_relu_backward = torch.ops.aten.leaky_relu_backward.grad_input
_leaky_relu = torch.ops.aten.leaky_relu.out
_elu_backward = torch.ops.aten.elu_backward.grad_input
_elu = torch.ops.aten.elu.out

NEGATIVE_SLOPE = 0.01
"""Of a leaky ReLU, as torch.nn has it."""


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


class SiLU(Activation):
    def activate(self, before: Tensor, after: Tensor) -> None:
        _silu(before, out=after)

    def turn_back(self, gradient: Tensor, before: Tensor, after: Tensor) -> None:
        _silu_backward(gradient, before, grad_input=gradient)


class LeakyReLU(Activation):
    def activate(self, before: Tensor, after: Tensor) -> None:
        _leaky_relu(before, NEGATIVE_SLOPE, out=after)

    def turn_back(self, gradient: Tensor, before: Tensor, after: Tensor) -> None:
        _leaky_relu_backward(gradient, before, NEGATIVE_SLOPE, False, grad_input=gradient)


class ELU(Activation):
    """With torch.nn's alpha of 1: below 0 the derivative is `after` + 1, without an exponential."""

    def activate(self, before: Tensor, after: Tensor) -> None:
        _elu(before, out=after)

    def turn_back(self, gradient: Tensor, before: Tensor, after: Tensor) -> None:
        _elu_backward(gradient, 1.0, 1.0, 1.0, True, after, grad_input=gradient)


ACTIVATIONS: dict[str, type[Activation]] = {
    "relu": ReLU,
    "tanh": Tanh,
    "gelu": GELU,
    "silu": SiLU,
    "leaky_relu": LeakyReLU,
    "elu": ELU,
}
"""By the names that MLP has for them."""
