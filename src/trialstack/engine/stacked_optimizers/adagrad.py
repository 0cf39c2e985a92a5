"""Adagrad for a stack."""

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


class AdagradArguments(NamedTuple):
    """Of every trial, [S]."""

    lr: NDArray[np.float64]
    lr_decay: NDArray[np.float64]
    weight_decay: NDArray[np.float64]
    initial_accumulator_value: NDArray[np.float64]
    eps: NDArray[np.float64]


class AdagradNumbers(NamedTuple):
    """Of one step."""

    scale: Number
    decay: Number
    eps: Number
    negative_rate: Number


class Adagrad(StackedOptimizer[AdagradNumbers, AdagradArguments]):
    """torch.optim.Adagrad."""

    of = torch.optim.Adagrad
    takes = AdagradArguments

    def __init__(self, settings: Settings, weights: Tensor) -> None:
        super().__init__(settings, weights)
        self.accumulator, self.scratch = torch.zeros_like(weights), torch.empty_like(weights)
        initial = weights.new_tensor(self.arguments.initial_accumulator_value.tolist())
        by_trial = initial.view(*weights.shape[:-2], 1, 1)
        self.state = {"sum": torch.zeros_like(weights).add_(by_trial)}

    def table(self, rates_KS: NDArray[np.float64], first: int) -> Tensor:
        _, lr_decay, weight_decay, _, eps = self.arguments
        before = first + np.arange(len(rates_KS))[:, None]
        return stacked_table((1.0, weight_decay, eps, -rates_KS / (1 + before * lr_decay)))

    def numbers(self, rows: Iterable[Any]) -> AdagradNumbers:
        return AdagradNumbers(*rows)

    def begin(self, step: AdagradNumbers) -> float:
        return 0.0

    def end(self, step: AdagradNumbers) -> None:
        gradient, squares = self.accumulator, self.state["sum"]
        if self.decays:
            add_scaled(gradient, self.weights, step.decay)
        squares.addcmul_(gradient, gradient)
        update = gradient.div_(torch.sqrt(squares, out=self.scratch).add_(step.eps))
        add_scaled(self.weights, update, step.negative_rate)
