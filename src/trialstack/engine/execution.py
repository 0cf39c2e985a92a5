"""How a stack's steps are executed on a kind of device: decided here alone."""

from collections.abc import Callable
from typing import NamedTuple

import torch

from trialstack.engine.cuda_graph import CudaGraphs
from trialstack.engine.device_queue import CudaQueue, DeviceQueue, Immediate
from trialstack.engine.replay import Capture


class Execution(NamedTuple):
    """What differs.

    Attributes:
        captures: makes what records the work of a stack's steps; None where they are called as they
            are. The numbers of a step are then tensors: a record repeats Python's numbers.
        queue: of what the host has it compute.
        fused: torch's fused kernels update trials one by one.
        halves: long sums of a single trial are made of two.
        parts: a large stack is computed in parts that stay in a cache.
    """

    captures: Callable[[], Capture] | None
    queue: Callable[[torch.device], DeviceQueue]
    fused: bool
    halves: bool
    parts: bool


CPU = Execution(captures=None, queue=Immediate, fused=True, halves=True, parts=True)
CUDA = Execution(captures=CudaGraphs, queue=CudaQueue, fused=False, halves=False, parts=False)


def on(device: torch.device) -> Execution:
    """Return how a device executes steps."""
    return CUDA if device.type == "cuda" else CPU
