"""Checksums of tensors' bits."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def checksum(values: Tensor) -> Tensor:
    """Return an int64 that changes, nearly always, when a bit of some floating-point numbers
    does.
    """
    return values.contiguous().view(_INTEGERS[values.itemsize]).sum(dtype=torch.int64)


class Checksums(TorchDispatchMode):
    """Within its `with` block, appends to `made` a checksum of what every operation returns."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[Tensor] = []

    def __torch_dispatch__(
        self,
        func: OpOverload[Any, Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        returned = func(*args, **(kwargs or {}))
        # a view has no values of its own, and what is empty has none yet
        if not func.is_view and "empty" not in func.name():
            values = returned if isinstance(returned, tuple | list) else (returned,)
            self.made += [
                checksum(value)
                for value in values
                if torch.is_tensor(value) and value.is_floating_point()
            ]
        return returned
