"""Where the parameters of a stack's networks lie: all of them in one tensor, a matrix a layer.

A layer's matrix has its weights and, as the last row, its biases: with a column of ones in its
inputs one product gives both, forwards and backwards. Networks that are narrower than others are
padded with zeros, which stay zero: a unit that is always 0 moves no weight, and none moves it.

Shapes: S trials in a stack, P numbers of a trial.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

ALIGNED = 4
"""Rows begin at multiples of so many numbers, 16 bytes of float32: kernels of GPUs want that."""


class Place(NamedTuple):
    """Of a layer's matrix, in the P numbers of a trial.

    Attributes:
        start: of its first row.
        rows: inputs, and one for the biases.
        columns: outputs.
        stride: from row to row.
    """

    start: int
    rows: int
    columns: int
    stride: int


class Packing:
    """The layout of all tensors that have a number for each parameter, [S, 1, P], or [1, P] of a
    single trial.

    Args:
        widths_S: of each trial: pixels, hidden units of each layer, classes.

    Attributes:
        widths: the largest of each layer.
        lead: leading dimensions of the matrices, S or none.
        size: P.
    """

    def __init__(self, widths_S: Sequence[Sequence[int]]) -> None:
        self.widths_S = widths_S
        self.widths = [max(of_layer) for of_layer in zip(*widths_S, strict=True)]
        self.lead = () if len(widths_S) == 1 else (len(widths_S),)
        self.places: list[Place] = []
        self.size = 0
        for inputs, outputs in pairwise(self.widths):
            stride = rounded_up(outputs, ALIGNED)
            self.places.append(Place(self.size, inputs + 1, outputs, stride))
            self.size += (inputs + 1) * stride

    def zeros(self, device: torch.device, dtype: torch.dtype) -> Tensor:
        return torch.zeros(*self.lead, 1, self.size, device=device, dtype=dtype)

    def matrices(self, packed: Tensor) -> list[Tensor]:
        """Return the matrix [S, in + 1, out] of each layer, as views."""
        return [
            packed[..., 0, start : start + rows * stride].unflatten(-1, (rows, stride))[
                ..., :columns
            ]
            for start, rows, columns, stride in self.places
        ]

    def of_trial(self, packed: Tensor, index: int) -> list[Tensor]:
        """Return views of a trial's part: weights [out, in] and biases [out] at its own widths, as
        MLP has them.
        """
        views = []
        for matrix, (inputs, outputs) in zip(
            self.matrices(packed), pairwise(self.widths_S[index]), strict=True
        ):
            own = matrix[index] if self.lead else matrix
            views += [own[:inputs, :outputs].mT, own[-1, :outputs]]
        return views

    def write(self, packed: Tensor, index: int, values: Sequence[Tensor]) -> None:
        """Set a trial's part."""
        for view, value in zip(self.of_trial(packed, index), values, strict=True):
            view.copy_(value)

    def read(self, packed: Tensor, index: int) -> list[Tensor]:
        """Return a trial's part in memory of its own on the CPU."""
        return [
            view.clone(memory_format=torch.contiguous_format).cpu()
            for view in self.of_trial(packed, index)
        ]


def rounded_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
