"""Adam and AdamW for a stack."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trialstack.engine import execution
from trialstack.engine.stacked_optimizer import (
    Number,
    Settings,
    StackedOptimizer,
    add_scaled,
    stacked_table,
)


class AdamArguments(NamedTuple):
    """Of every trial, [S]; the two `betas` [S, 2]."""

    lr: NDArray[np.float64]
    betas: NDArray[np.float64]
    eps: NDArray[np.float64]
    weight_decay: NDArray[np.float64]


class FusedNumbers(NamedTuple):
    """Of one step, for torch's kernel: the learning rate of each trial, and how many steps there
    were with this one.
    """

    scale: float
    rates_S: Sequence[float]
    steps: Tensor


class FormulaNumbers(NamedTuple):
    """Of one step, for the formula in `Adam.end`."""

    scale: Number
    decay: Number
    keep1: Number
    beta2: Number
    keep2: Number
    eps: Number
    negative_rate: Number


class Adam(StackedOptimizer[FusedNumbers | FormulaNumbers, AdamArguments]):
    """torch.optim.Adam. On the CPU, torch's own fused kernel takes the trials one by one."""

    of: ClassVar[type[torch.optim.Optimizer]] = torch.optim.Adam
    takes = AdamArguments
    kernel: Callable[..., None] = staticmethod(torch._fused_adam_)
    decoupled = False

    def __init__(self, settings: Settings, weights: Tensor) -> None:
        super().__init__(settings, weights)
        self.accumulator = torch.zeros_like(weights)
        self.state = {name: torch.zeros_like(weights) for name in ("exp_avg", "exp_avg_sq")}
        self.fused = execution.on(weights.device).fused
        _, betas, eps, weight_decay = self.arguments
        self.floats = np.column_stack((betas, eps, weight_decay)).tolist()
        every = (weights, self.accumulator, *self.state.values())
        self.trials = [
            tuple([part] for part in parts)
            for parts in zip(*(t.unbind() for t in every), strict=True)
        ]

    def table(self, rates_KS: NDArray[np.float64], first: int) -> Tensor:
        """Numbers of the fused kernel (learning rate, count of steps), or of the formula in
        `end`.
        """
        count = first + 1 + np.arange(len(rates_KS))[:, None]
        if self.fused:
            return stacked_table((1.0, rates_KS, count))
        _, betas, eps, weight_decay = self.arguments
        beta1, beta2 = betas.T
        correction1, correction2 = 1 - beta1**count, np.sqrt(1 - beta2**count)
        decay = 1 - rates_KS * weight_decay if self.decoupled else weight_decay
        eps = eps * correction2
        negative_rate = -rates_KS * correction2 / correction1
        return stacked_table((1.0, decay, 1 - beta1, beta2, 1 - beta2, eps, negative_rate))

    def numbers(self, rows: Iterable[Any]) -> FormulaNumbers:
        return FormulaNumbers(*rows)

    def steps(self, table_QKS: Tensor) -> list[FusedNumbers | FormulaNumbers]:
        if not self.fused:
            return super().steps(table_QKS)
        return [
            FusedNumbers(scales[0], rates, torch.tensor(counts[0]))
            for scales, rates, counts in zip(*table_QKS.tolist(), strict=True)
        ]

    def begin(self, step: FusedNumbers | FormulaNumbers) -> float:
        return 0.0

    def end(self, step: FusedNumbers | FormulaNumbers) -> None:
        if isinstance(step, FusedNumbers):
            self._end_fused(step)
        else:
            self._end_formula(step)

    def _end_fused(self, step: FusedNumbers) -> None:
        for rate, (beta1, beta2, eps, weight_decay), (weights, *others) in zip(
            step.rates_S, self.floats, self.trials, strict=True
        ):
            self.kernel(
                weights, *others, [], [step.steps],
                lr=rate, beta1=beta1, beta2=beta2, eps=eps, weight_decay=weight_decay,
                amsgrad=False, maximize=False,
            )  # fmt: skip

    def _end_formula(self, step: FormulaNumbers) -> None:
        gradient, exp_avg, exp_avg_sq = (
            self.accumulator,
            self.state["exp_avg"],
            self.state["exp_avg_sq"],
        )
        if self.decoupled:
            self.weights.mul_(step.decay)
        elif self.decays:
            add_scaled(gradient, self.weights, step.decay)
        exp_avg.lerp_(gradient, step.keep1)
        add_scaled(exp_avg_sq.mul_(step.beta2), gradient.square_(), step.keep2)
        denominator = torch.sqrt(exp_avg_sq, out=gradient).add_(step.eps)
        add_scaled(
            self.weights, torch.div(exp_avg, denominator, out=denominator), step.negative_rate
        )


class AdamW(Adam):
    """torch.optim.AdamW."""

    of = torch.optim.AdamW
    kernel: Callable[..., None] = staticmethod(torch._fused_adamw_)
    decoupled = True
