"""Adam and AdamW for a stack."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trialstack.engine import execution
from trialstack.engine.adam_update import adam
from trialstack.engine.stacked_optimizer import (
    Number,
    Settings,
    StackedOptimizer,
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


class UpdateNumbers(NamedTuple):
    """Of one step, for `adam_update`.

    Attributes:
        scale: of gradients.
        of_update: `numbers` there.
    """

    scale: Number
    of_update: Sequence[Tensor]


class Adam(StackedOptimizer[FusedNumbers | UpdateNumbers, AdamArguments]):
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
        """Numbers of the fused kernel (learning rate, count of steps), or of `adam_update`."""
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

    def numbers(self, rows: Iterable[Any]) -> UpdateNumbers:
        scale, *of_update = rows
        return UpdateNumbers(scale, of_update)

    def steps(self, table_QKS: Tensor) -> list[FusedNumbers | UpdateNumbers]:
        if not self.fused:
            return super().steps(table_QKS)
        return [
            FusedNumbers(scales[0], rates, torch.tensor(counts[0]))
            for scales, rates, counts in zip(*table_QKS.tolist(), strict=True)
        ]

    def begin(self, step: FusedNumbers | UpdateNumbers) -> float:
        return 0.0

    def end(self, step: FusedNumbers | UpdateNumbers) -> None:
        if isinstance(step, FusedNumbers):
            self._end_fused(step)
        else:
            adam(
                self.weights, self.accumulator, *self.state.values(), step.of_update, self.decoupled
            )

    def _end_fused(self, step: FusedNumbers) -> None:
        for rate, (beta1, beta2, eps, weight_decay), (weights, *others) in zip(
            step.rates_S, self.floats, self.trials, strict=True
        ):
            self.kernel(
                weights, *others, [], [step.steps],
                lr=rate, beta1=beta1, beta2=beta2, eps=eps, weight_decay=weight_decay,
                amsgrad=False, maximize=False,
            )  # fmt: skip


class AdamW(Adam):
    """torch.optim.AdamW."""

    of = torch.optim.AdamW
    kernel: Callable[..., None] = staticmethod(torch._fused_adamw_)
    decoupled = True
