"""What an optimizer of a stack is: torch.optim's update, with settings of its own for every trial,
without autograd.

The stack adds the products that gradients are made of to `accumulator`, after multiplying what is
there by what `begin` returns. So plain SGD updates its weights in that very product.

Shapes: S trials in a stack, P parameters of a trial, K optimizer steps in a chunk, Q numbers that a
step needs. The parameters of all trials are one tensor [S, 1, P], or [1, P] of a single trial.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trialstack.engine import execution

Number = float | Tensor
"""A number of each trial, [S, 1, 1] or [1, 1]; a float where all trials have the same, and steps
are not captured."""

Settings = Sequence[Mapping[str, Any]]
"""The `optimizer` group of each trial."""


class Numbers(Protocol):
    """The Q numbers of an optimizer step, a NamedTuple.

    Attributes:
        scale: what gradients are multiplied by; the first of them.
    """

    @property
    def scale(self) -> Number: ...


class Arguments(Protocol):
    """What an optimizer's class takes, of every trial: a NamedTuple of [S], under torch's names."""

    @property
    def weight_decay(self) -> NDArray[np.float64]: ...


N = TypeVar("N", bound=Numbers)
A = TypeVar("A", bound=Arguments)


class StackedOptimizer(ABC, Generic[N, A]):
    """The update of one of torch.optim's classes, for all trials at once.

    An epoch is one `table`; a chunk of it `steps`; each of those `begin`, products added to
    `accumulator`, and `end`.

    Attributes:
        of: the class in torch.optim.
        takes: the NamedTuple of those of its arguments that are understood.
        varying: those in which trials may differ, besides the ones that `core.schema` knows.
        arguments: of the trials.
        weights: all trials' parameters.
        accumulator: where gradients are accumulated.
        state: what goes into checkpoints, by torch.optim's names, each shaped as the parameters.
    """

    of: ClassVar[type[torch.optim.Optimizer]]
    takes: ClassVar[type[NamedTuple]]
    varying: ClassVar[frozenset[str]] = frozenset()
    accumulator: Tensor
    state: dict[str, Tensor]

    def __init__(self, settings: Settings, weights: Tensor) -> None:
        of_trials = ([trial[name] for trial in settings] for name in self.takes._fields)
        self.arguments = cast("A", self.takes._make(map(np.array, of_trials)))
        self.weights = weights
        self.decays = bool(self.arguments.weight_decay.any())

    @abstractmethod
    def table(self, rates_KS: NDArray[np.float64], first: int) -> Tensor:
        """Return the numbers [Q, K, S] of the steps from `first` (counted from 0) on, float64 on
        the CPU.
        """

    @abstractmethod
    def numbers(self, rows: Iterable[Any]) -> N:
        """Return the numbers of a step by their names."""

    def steps(self, table_QKS: Tensor) -> list[N]:
        """Return the K steps of a table; if they are captured, their numbers are views of it."""
        columns = []
        as_tensors = execution.on(self.weights.device).captures is not None
        for row_KS in table_QKS:
            if not as_tensors and bool((row_KS == row_KS[:, :1]).all()):
                columns.append(row_KS[:, 0].tolist())
            else:
                columns.append(
                    row_KS.to(self.weights.dtype).view(-1, *self.weights.shape[:-2], 1, 1).unbind()
                )
        return [self.numbers(rows) for rows in zip(*columns, strict=True)]

    @abstractmethod
    def begin(self, step: N) -> float:
        """Return what is left of `accumulator` when gradients are added."""

    @abstractmethod
    def end(self, step: N) -> None:
        """Update the weights with what was accumulated."""


def stacked_table(numbers: Iterable[Any]) -> Tensor:
    """Return numbers, each of [K, S] or what can be broadcast to that, as one table [Q, K, S]."""
    return torch.from_numpy(np.stack(np.broadcast_arrays(*numbers)))


def mean_over(table_QKS: Tensor, batch_size: int) -> Tensor:
    """Return a table with which gradients of a sum over a minibatch's samples do what those of the
    mean would.
    """
    scale_1KS, others = table_QKS.split([1, len(table_QKS) - 1])
    return torch.cat([scale_1KS / batch_size, others])


def add_scaled(target: Tensor, source: Tensor, factor: Number) -> Tensor:
    """Add `factor` times `source` to `target`, and return that."""
    return (
        target.add_(source, alpha=factor)
        if isinstance(factor, float)
        else target.addcmul_(source, factor)
    )
