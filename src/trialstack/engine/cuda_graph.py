"""CUDA graphs: what a function of tensors does on a GPU, captured once for each of their shapes,
then replayed.

A step of a small network is some thirty kernels of a few microseconds; launching them one by one
takes longer.
"""

from collections.abc import Callable

import torch
from torch import Tensor

TensorFunction = Callable[..., None]


class Replay:
    """Calls one function: on a GPU by replaying it, elsewhere as it is.

    It gets the function at every call and keeps none: its owner's method would keep the owner, and
    all its tensors, until the garbage collector comes by.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.inputs: dict[tuple[torch.Size, ...], list[Tensor]] = {}
        self.graphs: dict[tuple[torch.Size, ...], torch.cuda.CUDAGraph] = {}

    def __call__(self, function: TensorFunction, *tensors: Tensor) -> None:
        """Do what `function(*tensors)` does.

        Args:
            function: the same one at every call. Besides its arguments, it may read and write only
                tensors that stay where they are, and it must not synchronise with the GPU.
            *tensors: its arguments.
        """
        if self.device.type != "cuda":
            function(*tensors)
            return
        shapes = tuple(tensor.shape for tensor in tensors)
        if (
            shapes not in self.inputs
        ):  # libraries that set themselves up in the first call would spoil a capture
            self.inputs[shapes] = [tensor.clone() for tensor in tensors]
            self._warm_up(function, self.inputs[shapes])
            return
        for static, tensor in zip(self.inputs[shapes], tensors, strict=True):
            static.copy_(tensor)
        if shapes not in self.graphs:
            self.graphs[shapes] = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graphs[shapes]):
                function(*self.inputs[shapes])
        self.graphs[shapes].replay()

    def _warm_up(self, function: TensorFunction, tensors: list[Tensor]) -> None:
        """Call the function, with its effects, on a stream of its own as captures want it."""
        here, aside = torch.cuda.current_stream(), torch.cuda.Stream()
        aside.wait_stream(here)
        with torch.cuda.stream(aside):
            function(*tensors)
        here.wait_stream(aside)
