"""The optimizers of a stack: torch.optim's SGD, Adam and AdamW, with settings of its own for every trial.

There is no autograd: the stack accumulates the products that gradients are made of into `into`, after multiplying what
is there by what `begin` returns. So plain SGD updates its weights in that very product.

Shapes: S trials in a stack, P parameters of a trial, K optimizer steps in a chunk, Q numbers that a step needs. The
parameters of all trials are one tensor [S, 1, P], or [1, P] of a single trial.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trialstack.core.build import build
from trialstack.core.origins import imported

Number = float | Tensor
"""A number of each trial, [S, 1, 1] or [1, 1]; a float where all trials on a CPU have the same."""

Step = Sequence[Any]
"""The Q numbers of an optimizer step; the first is what its gradients are multiplied by."""

Settings = Sequence[Mapping[str, Any]]
"""The `optimizer` group of each trial."""


class StackedOptimizer:
    """What SGD and Adam have in common.

    An epoch is one `table`; a chunk of it `steps`; each of those `begin`, the accumulation into `into`, and `end`.

    Attributes:
        arguments: of torch's optimizer that are understood.
        weights: all trials' parameters.
        into: where gradients are accumulated.
        state: what goes into checkpoints, by torch.optim's names, each shaped as the parameters.
    """

    arguments: ClassVar[frozenset[str]]
    into: Tensor
    state: dict[str, Tensor]

    def __init__(self, settings: Settings, weights: Tensor) -> None:
        self.settings = settings
        self.weights = weights
        self.weight_decay = self.setting("weight_decay")
        self.decays = bool(self.weight_decay.any())

    def setting(self, name: str) -> NDArray[np.float64]:
        """Return a setting of every trial, [S]."""
        return np.array([settings[name] for settings in self.settings], dtype=np.float64)

    def table(self, rates_KS: NDArray[np.float64], first: int) -> Tensor:
        """Return the numbers [Q, K, S] of the steps from `first` (counted from 0) on, float64 on the CPU."""
        raise NotImplementedError

    def steps(self, table_QKS: Tensor) -> Sequence[Step]:
        """Return the K steps of a table; on a GPU their numbers are views of it."""
        rows = []
        for row_KS in table_QKS:
            if row_KS.device.type == "cpu" and bool((row_KS == row_KS[:, :1]).all()):
                rows.append(row_KS[:, 0].tolist())
            else:
                rows.append(row_KS.to(self.weights.dtype).view(-1, *self.weights.shape[:-2], 1, 1).unbind())
        return list(zip(*rows, strict=True))

    def begin(self, step: Step) -> float:
        """Return what is left of `into` when gradients are added."""
        raise NotImplementedError

    def end(self, step: Step) -> None:
        """Update the weights with what was accumulated."""
        raise NotImplementedError


def build_optimizer(settings: Settings, weights: Tensor) -> StackedOptimizer:
    """Return the optimizer that the `_target_` of all `settings` names."""
    kind = OPTIMIZERS[imported(settings[0]["_target_"])]
    return kind([complete_settings(setting) for setting in settings], weights)


def tensors_per_parameter(settings: Settings) -> int:
    """Return how many numbers an optimizer keeps for each parameter, itself included."""
    one = build_optimizer(settings, torch.zeros(len(settings), 1, 1))
    kept = (one.weights, one.into, *one.state.values())
    return len({tensor.data_ptr() for tensor in kept})


def complete_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return an `optimizer` group's arguments with torch's defaults for those that it lacks.

    Raises:
        UserError: torch's optimizer does not take them.
    """
    unused = torch.nn.Parameter(torch.zeros(1))
    return dict(build("optimizer", settings, torch.optim.Optimizer, [unused]).defaults)


class SGD(StackedOptimizer):
    """torch.optim.SGD with momentum, Nesterov momentum and weight decay."""

    arguments = frozenset({"lr", "momentum", "weight_decay", "nesterov"})

    def __init__(self, settings: Settings, weights: Tensor) -> None:
        super().__init__(settings, weights)
        self.momentum = self.setting("momentum")
        self.nesterov = bool(settings[0]["nesterov"])
        self.state = {"momentum_buffer": torch.zeros_like(weights)} if self.momentum.any() else {}
        self.buffer = self.state.get("momentum_buffer", weights)
        self.into = torch.zeros_like(weights) if self.nesterov else self.buffer

    def table(self, rates_KS: NDArray[np.float64], first: int) -> Tensor:
        scale = np.ones_like(rates_KS) if self.state else -rates_KS
        decay = self.weight_decay if self.state else 1 - rates_KS * self.weight_decay
        rows = (scale, decay, self.momentum, -rates_KS, -rates_KS * self.momentum)
        return torch.from_numpy(np.stack(np.broadcast_arrays(*rows)))

    def begin(self, step: Step) -> float:
        _, decay, momentum, *_ = step
        if not self.state:
            if self.decays:
                self.weights.mul_(decay)
            return 1.0
        if self.nesterov:
            return 0.0
        if isinstance(momentum, float) and not self.decays:
            return momentum
        self.buffer.mul_(momentum)
        if self.decays:
            add_scaled(self.buffer, self.weights, decay)
        return 1.0

    def end(self, step: Step) -> None:
        if not self.state:
            return
        _, decay, momentum, negative_rate, negative_rate_momentum = step
        if not self.nesterov:
            add_scaled(self.weights, self.buffer, negative_rate)
            return
        if self.decays:
            add_scaled(self.into, self.weights, decay)
        self.buffer.mul_(momentum).add_(self.into)
        add_scaled(self.weights, self.into, negative_rate)
        add_scaled(self.weights, self.buffer, negative_rate_momentum)


class Adam(StackedOptimizer):
    """torch.optim.Adam. On the CPU, torch's own fused kernel takes the trials one by one."""

    arguments = frozenset({"lr", "betas", "eps", "weight_decay"})
    kernel: Callable[..., None] = staticmethod(torch._fused_adam_)
    decoupled = False

    def __init__(self, settings: Settings, weights: Tensor) -> None:
        super().__init__(settings, weights)
        self.into = torch.zeros_like(weights)
        self.state = {name: torch.zeros_like(weights) for name in ("exp_avg", "exp_avg_sq")}
        self.fused = weights.device.type == "cpu"
        every = (weights, self.into, *self.state.values())
        self.trials = [tuple([part] for part in parts) for parts in zip(*(t.unbind() for t in every), strict=True)]

    def table(self, rates_KS: NDArray[np.float64], first: int) -> Tensor:
        """Numbers of the fused kernel (learning rate, count of steps), or of the formula in `end`."""
        count = first + 1 + np.arange(len(rates_KS))[:, None]
        if self.fused:
            return torch.from_numpy(np.stack(np.broadcast_arrays(1.0, rates_KS, count)))
        betas = np.array([setting["betas"] for setting in self.settings], dtype=np.float64)
        beta1, beta2 = betas.T
        correction1, correction2 = 1 - beta1**count, np.sqrt(1 - beta2**count)
        decay = 1 - rates_KS * self.weight_decay if self.decoupled else self.weight_decay
        eps = self.setting("eps") * correction2
        rows = (1.0, decay, 1 - beta1, beta2, 1 - beta2, eps, -rates_KS * correction2 / correction1)
        return torch.from_numpy(np.stack(np.broadcast_arrays(*rows)))

    def steps(self, table_QKS: Tensor) -> Sequence[Step]:
        if not self.fused:
            return super().steps(table_QKS)
        return [
            (scales[0], rates, torch.tensor(counts[0]))
            for scales, rates, counts in zip(*table_QKS.tolist(), strict=True)
        ]

    def begin(self, step: Step) -> float:
        return 0.0

    def end(self, step: Step) -> None:
        if self.fused:
            self._end_fused(*step[1:])
        else:
            self._end_formula(*step[1:])

    def _end_fused(self, rates: Sequence[float], count: Tensor) -> None:
        for rate, setting, (weights, gradients, exp_avg, exp_avg_sq) in zip(
            rates, self.settings, self.trials, strict=True
        ):
            self.kernel(
                weights, gradients, exp_avg, exp_avg_sq, [], [count],
                lr=rate, beta1=setting["betas"][0], beta2=setting["betas"][1], eps=setting["eps"],
                weight_decay=setting["weight_decay"], amsgrad=False, maximize=False,
            )  # fmt: skip

    def _end_formula(
        self, decay: Number, keep1: Number, beta2: Number, keep2: Number, eps: Number, negative_rate: Number
    ) -> None:
        gradient, exp_avg, exp_avg_sq = self.into, self.state["exp_avg"], self.state["exp_avg_sq"]
        if self.decoupled:
            self.weights.mul_(decay)
        elif self.decays:
            add_scaled(gradient, self.weights, decay)
        exp_avg.lerp_(gradient, keep1)
        add_scaled(exp_avg_sq.mul_(beta2), gradient.square_(), keep2)
        denominator = torch.sqrt(exp_avg_sq, out=gradient).add_(eps)
        add_scaled(self.weights, torch.div(exp_avg, denominator, out=denominator), negative_rate)


class AdamW(Adam):
    """torch.optim.AdamW."""

    kernel: Callable[..., None] = staticmethod(torch._fused_adamw_)
    decoupled = True


OPTIMIZERS: dict[type[torch.optim.Optimizer], type[StackedOptimizer]] = {
    torch.optim.SGD: SGD,
    torch.optim.Adam: Adam,
    torch.optim.AdamW: AdamW,
}


def add_scaled(target: Tensor, source: Tensor, factor: Number) -> Tensor:
    """Add `factor` times `source` to `target`, and return that."""
    return target.add_(source, alpha=factor) if isinstance(factor, float) else target.addcmul_(source, factor)
