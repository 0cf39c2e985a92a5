"""Calls of one function of tensors that are made once for each of their shapes, then replayed."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

TensorFunction = Callable[..., None]

Capture = Callable[[TensorFunction, Sequence[Tensor]], Callable[[], None]]
"""Takes a function and its arguments, and returns what does the same once more, with what is then
in these tensors.
"""


class Replay:
    """Calls one function: by replaying it if `capture` is given, else as it is.

    It gets the function at every call and keeps none: its owner's method would keep the owner, and
    all its tensors, until the garbage collector comes by.

    Args:
        capture: records what the function does.
    """

    def __init__(self, capture: Capture | None) -> None:
        self.capture = capture
        self.inputs: dict[tuple[torch.Size, ...], list[Tensor]] = {}
        self.replays: dict[tuple[torch.Size, ...], Callable[[], None]] = {}

    def __call__(self, function: TensorFunction, *tensors: Tensor) -> None:
        """Do what `function(*tensors)` does.

        Args:
            function: the same one at every call. Besides its arguments, it may read and write only
                tensors that stay where they are, and it must not synchronise with the device.
            *tensors: its arguments.
        """
        if self.capture is None:
            function(*tensors)
            return
        shapes = tuple(tensor.shape for tensor in tensors)
        if shapes not in self.inputs:
            # libraries that set themselves up in the first call would spoil a capture
            self.inputs[shapes] = [tensor.clone() for tensor in tensors]
            function(*self.inputs[shapes])
            return
        for static, tensor in zip(self.inputs[shapes], tensors, strict=True):
            static.copy_(tensor)
        if shapes not in self.replays:
            self.replays[shapes] = self.capture(function, self.inputs[shapes])
        self.replays[shapes]()
