"""CUDA graphs: what a function of tensors does on a GPU, captured once for each of their shapes, then replayed.

A step of a small network is some thirty kernels of a few microseconds; launching them one by one takes longer.
"""

from collections.abc import Callable

import torch
from torch import Tensor

TensorFunction = Callable[..., None]


def replayed(function: TensorFunction, device: torch.device) -> TensorFunction:
    """Return a function that does the same as `function`: on a GPU by replaying it, elsewhere `function` itself.

    Besides its arguments, `function` may read and write only tensors that stay where they are, and it must not
    synchronise with the GPU.
    """
    return _Replayed(function) if device.type == "cuda" else function


class _Replayed:
    def __init__(self, function: TensorFunction) -> None:
        self.function = function
        self.inputs: dict[tuple[torch.Size, ...], list[Tensor]] = {}
        self.graphs: dict[tuple[torch.Size, ...], torch.cuda.CUDAGraph] = {}

    def __call__(self, *tensors: Tensor) -> None:
        shapes = tuple(tensor.shape for tensor in tensors)
        if shapes not in self.inputs:  # libraries that set themselves up in the first call would spoil a capture
            self.inputs[shapes] = [tensor.clone() for tensor in tensors]
            self._warm_up(shapes)
            return
        for static, tensor in zip(self.inputs[shapes], tensors, strict=True):
            static.copy_(tensor)
        if shapes not in self.graphs:
            self.graphs[shapes] = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graphs[shapes]):
                self.function(*self.inputs[shapes])
        self.graphs[shapes].replay()

    def _warm_up(self, shapes: tuple[torch.Size, ...]) -> None:
        """Call the function, with its effects, on a stream of its own as captures want it."""
        here, aside = torch.cuda.current_stream(), torch.cuda.Stream()
        aside.wait_stream(here)
        with torch.cuda.stream(aside):
            self.function(*self.inputs[shapes])
        here.wait_stream(aside)
