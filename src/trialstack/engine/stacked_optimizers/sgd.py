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


class SGDNumbers(NamedTuple):
    """Of one step."""

    scale: Number
    decay: Number
    momentum: Number
    negative_rate: Number
    negative_rate_momentum: Number


class SGD(StackedOptimizer[SGDNumbers]):
    """torch.optim.SGD with momentum, Nesterov momentum and weight decay."""

    of = torch.optim.SGD
    arguments = frozenset({"lr", "momentum", "weight_decay", "nesterov"})

    def __init__(self, settings: Settings, weights: Tensor) -> None:
        super().__init__(settings, weights)
        self.momentum = self.setting("momentum")
        self.nesterov = bool(settings[0]["nesterov"])
        self.state = {"momentum_buffer": torch.zeros_like(weights)} if self.momentum.any() else {}
        self.buffer = self.state.get("momentum_buffer", weights)
        self.accumulator = torch.zeros_like(weights) if self.nesterov else self.buffer

    def table(self, rates_KS: NDArray[np.float64], first: int) -> Tensor:
        scale = np.ones_like(rates_KS) if self.state else -rates_KS
        decay = self.weight_decay if self.state else 1 - rates_KS * self.weight_decay
        return stacked_table((scale, decay, self.momentum, -rates_KS, -rates_KS * self.momentum))

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
