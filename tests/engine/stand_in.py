"""What stands in for a GPU: fake CUDA tensors, and a graph on the CPU."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from trialstack.engine.device_queue import Immediate
from trialstack.engine.execution import CUDA

Operation = OpOverload[Any, Any]


def called() -> Callable[..., Callable[[], None]]:
    """Captures that call the function once more: what a graph must be equal to."""
    return lambda function, tensors: lambda: function(*tensors)


def recorded() -> Callable[..., Callable[[], None]]:
    """Captures that repeat what a stack's function did, as a CUDA graph does."""

    def capture(function: Any, tensors: Sequence[Tensor]) -> Callable[[], None]:
        stack = function.__self__
        totals = stack.train_totals
        changed = [stack.parameters, stack.optimizer.accumulator, totals.loss_S, totals.correct_S]
        changed += stack.optimizer.state.values()
        before = [tensor.clone() for tensor in changed]
        with Recording() as recording:
            function(*tensors)
        for tensor, value in zip(changed, before, strict=True):
            tensor.copy_(value)  # what is captured is not executed
        replay: Callable[[], None] = recording.replay
        return replay

    return capture


class RunsAhead(Immediate):
    """As the host sees a GPU's."""

    runs_ahead = True


CALLED, RECORDED = (
    CUDA._replace(captures=captures, queue=RunsAhead) for captures in (called, recorded)
)
"""The branches of a CUDA device, on any."""


class Recording(TorchDispatchMode):
    """Records operations with the tensors that they touched, and repeats them on these."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Operation, Sequence[Any], Mapping[str, Any], Any]] = []

    def __torch_dispatch__(
        self,
        func: Operation,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        returned = func(*args, **(kwargs or {}))
        assert may_be_captured(func, args, returned), func
        if not is_view(func, args, returned):
            self.calls.append((func, args, kwargs or {}, returned))
        return returned

    def replay(self) -> None:
        for func, args, kwargs, first in self.calls:
            if "empty" in func.name():  # has what another graph has left there
                first.fill_(torch.nan if first.is_floating_point() else -1)
                continue
            for old, new in zip(
                tree_leaves(first), tree_leaves(func(*args, **kwargs)), strict=True
            ):
                if old is not new:
                    old.copy_(new)


class Kernels(TorchDispatchMode):
    """Counts the operations that start kernels; a product that begins with a copy counts as two."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(
        self,
        func: Operation,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        returned = func(*args, **(kwargs or {}))
        assert may_be_captured(func, args, returned), func
        silent = is_view(func, args, returned) or "empty" in func.name() or "prim" in func.name()
        if not silent:
            copies = func.name() in ("aten::addmm", "aten::baddbmm")
            self.counts[func.name()] += 1 + copies
        return returned


def is_view(func: Operation, args: Sequence[Any], returned: Any) -> bool:
    """Whether nothing is computed; what may be a view, such as `reshape`, need not be one."""
    return func.is_view and all(
        tensor.untyped_storage()._cdata == args[0].untyped_storage()._cdata
        for tensor in tree_leaves(returned)
    )


def may_be_captured(func: Operation, args: Sequence[Any], returned: Any) -> bool:
    """Whether an operation neither waits for the device nor draws random numbers."""
    devices = {leaf.device for leaf in tree_leaves([args, returned]) if torch.is_tensor(leaf)}
    return (
        func.name() not in ("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select")
        and torch.Tag.nondeterministic_seeded not in func.tags
        and len(devices) <= 1
    )
