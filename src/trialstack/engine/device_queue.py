"""What the host has queued on a device: how far it runs ahead, and copies that do not stop it."""

from collections import deque
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

AHEAD = 4
"""Chunks that the host queues before it waits for the first of them: enough for the device never to
wait for the host, few enough for a progress bar to show what the device has done."""


class DeviceQueue(Protocol):
    """Attributes:
    runs_ahead: whether the host goes on while the device computes.
    """

    runs_ahead: bool

    def advance(self) -> None:
        """Note that a chunk has been queued, and wait while there are too many."""

    def wait(self) -> None:
        """Wait until all is done."""

    def fetch(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return tensors for the CPU to read at once, all that the device has in one go."""

    def send(self, tensor: Tensor) -> Tensor:
        """Return a tensor of the CPU on the device, without waiting."""


class Immediate:
    """A device that has computed when a call returns: the CPU."""

    runs_ahead = False

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def advance(self) -> None:
        pass

    def wait(self) -> None:
        pass

    def fetch(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        return tensors

    def send(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device)


class CudaQueue:
    """A GPU's current stream."""

    runs_ahead = True

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._queued: deque[torch.cuda.Event] = deque()

    def advance(self) -> None:
        self._queued.append(torch.cuda.current_stream(self.device).record_event())
        if len(self._queued) > AHEAD:
            self._queued.popleft().synchronize()

    def wait(self) -> None:
        torch.cuda.synchronize(self.device)

    def fetch(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        fetched = [tensor.to("cpu", non_blocking=True) for tensor in tensors]  # pinned memory
        self.wait()
        return fetched

    def send(self, tensor: Tensor) -> Tensor:
        return tensor.pin_memory().to(self.device, non_blocking=True)
