"""CUDA graphs: what a function of tensors does on a GPU, captured once, then replayed.

A step of a small network is some fifteen kernels of a few microseconds; launching them one by one
takes longer.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


class CudaGraphs:
    """Captures functions whose graphs share their memory: none is replayed while another one is,
    and none leaves anything in it.
    """

    def __init__(self) -> None:
        self.pool: Any = None

    def __call__(
        self, function: Callable[..., None], tensors: Sequence[Tensor]
    ) -> Callable[[], None]:
        """Return what does to the same tensors what `function(*tensors)` would do."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(tensors[0].device), torch.cuda.graph(graph, pool=self.pool):
            function(*tensors)
        self.pool = self.pool or graph.pool()
        return graph.replay
