"""RMSprop for a stack."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trialstack.engine.stacked_optimizer import (
    Number,
    Settings,
    StackedOptimizer,
    add_scaled,
    stacked_table,
)


class RMSpropArguments(NamedTuple):
    """Of every trial, [S]."""

    lr: NDArray[np.float64]
    alpha: NDArray[np.float64]
    eps: NDArray[np.float64]
    weight_decay: NDArray[np.float64]
    momentum: NDArray[np.float64]


class RMSpropNumbers(NamedTuple):
    """Of one step."""

    scale: Number
    decay: Number
    alpha: Number
    rest: Number
    eps: Number
    momentum: Number
    negative_rate: Number


class RMSprop(StackedOptimizer[RMSpropNumbers, RMSpropArguments]):
    """torch.optim.RMSprop with momentum and weight decay, not centered."""

    of = torch.optim.RMSprop
    takes = RMSpropArguments

    def __init__(self, settings: Settings, weights: Tensor) -> None:
        super().__init__(settings, weights)
        self.accumulator, self.scratch = torch.zeros_like(weights), torch.empty_like(weights)
        has_momentum = bool(self.arguments.momentum.any())
        names = ["square_avg", *(["momentum_buffer"] if has_momentum else [])]
        self.state = {name: torch.zeros_like(weights) for name in names}

    def table(self, rates_KS: NDArray[np.float64], first: int) -> Tensor:
        _, alpha, eps, weight_decay, momentum = self.arguments
        return stacked_table((1.0, weight_decay, alpha, 1 - alpha, eps, momentum, -rates_KS))

    def numbers(self, rows: Iterable[Any]) -> RMSpropNumbers:
        return RMSpropNumbers(*rows)

    def begin(self, step: RMSpropNumbers) -> float:
        return 0.0

    def end(self, step: RMSpropNumbers) -> None:
        gradient, (square_avg, *buffers) = self.accumulator, self.state.values()
        if self.decays:
            add_scaled(gradient, self.weights, step.decay)
        square = torch.square(gradient, out=self.scratch)
        add_scaled(square_avg.mul_(step.alpha), square, step.rest)
        update = gradient.div_(torch.sqrt(square_avg, out=self.scratch).add_(step.eps))
        for buffer in buffers:
            update = buffer.mul_(step.momentum).add_(update)
        add_scaled(self.weights, update, step.negative_rate)
