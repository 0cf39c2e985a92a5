"""SGD for a stack."""

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


class SGDArguments(NamedTuple):
    """Of every trial, [S]."""

    lr: NDArray[np.float64]
    momentum: NDArray[np.float64]
    weight_decay: NDArray[np.float64]
    nesterov: NDArray[np.bool_]


class SGDNumbers(NamedTuple):
    """Of one step."""

    scale: Number
    decay: Number
    momentum: Number
    negative_rate: Number
    negative_rate_momentum: Number


class SGD(StackedOptimizer[SGDNumbers, SGDArguments]):
    """torch.optim.SGD with momentum, Nesterov momentum and weight decay."""

    of = torch.optim.SGD
    takes = SGDArguments

    def __init__(self, settings: Settings, weights: Tensor) -> None:
        super().__init__(settings, weights)
        self.nesterov = bool(self.arguments.nesterov[0])
        has_momentum = bool(self.arguments.momentum.any())
        self.state = {"momentum_buffer": torch.zeros_like(weights)} if has_momentum else {}
        self.buffer = self.state.get("momentum_buffer", weights)
        self.accumulator = torch.zeros_like(weights) if self.nesterov else self.buffer

    def table(self, rates_KS: NDArray[np.float64], first: int) -> Tensor:
        _, momentum, weight_decay, _ = self.arguments
        scale = np.ones_like(rates_KS) if self.state else -rates_KS
        decay = weight_decay if self.state else 1 - rates_KS * weight_decay
        return stacked_table((scale, decay, momentum, -rates_KS, -rates_KS * momentum))

    def numbers(self, rows: Iterable[Any]) -> SGDNumbers:
        return SGDNumbers(*rows)

    def begin(self, step: SGDNumbers) -> float:
        if not self.state:
            if self.decays:
                self.weights.mul_(step.decay)
            return 1.0
        if self.nesterov:
            return 0.0
        if isinstance(step.momentum, float) and not self.decays:
            return step.momentum
        self.buffer.mul_(step.momentum)
        if self.decays:
            add_scaled(self.buffer, self.weights, step.decay)
        return 1.0

    def end(self, step: SGDNumbers) -> None:
        if not self.state:
            return
        if not self.nesterov:
            add_scaled(self.weights, self.buffer, step.negative_rate)
            return
        if self.decays:
            add_scaled(self.accumulator, self.weights, step.decay)
        self.buffer.mul_(step.momentum).add_(self.accumulator)
        add_scaled(self.weights, self.accumulator, step.negative_rate)
        add_scaled(self.weights, self.buffer, step.negative_rate_momentum)
