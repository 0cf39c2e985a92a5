"""The order of chunks, drawn while the device computes, and how far the host runs ahead of it."""

from typing import Any

import pytest
import torch

from tests.engine.stand_in import CALLED
from trialstack.data.minibatches import epoch_order
from trialstack.engine.chunks import Order, ShuffledChunks
from trialstack.engine.device_queue import AHEAD, CudaQueue

CPU = torch.device("cpu")


@pytest.mark.parametrize("runs_ahead", [False, True])
def test_every_epoch_has_its_own_order_whichever_came_before(
    runs_ahead: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if runs_ahead:
        monkeypatch.setattr("trialstack.engine.execution.CPU", CALLED)
    orders = [Order(1, 10), Order(2, 10), Order(1, 0)]
    chunks = ShuffledChunks(
        samples=30,
        everything=40,
        batch_size=4,
        orders=orders,
        steps=8,
        steps_per_execution=3,
        device=CPU,
    )
    for epoch in (0, 1, 2, 7, 8):
        chunks.set_epoch(epoch)
        drawn = list(chunks)
        assert [chunk.shape[1] for chunk in drawn] == [3, 3, 1, 1]
        assert len(drawn) == len(chunks)
        for row, (seed, first) in enumerate(orders):
            order = torch.cat([chunk[row].flatten() for chunk in drawn])
            assert torch.equal(order, epoch_order(30, seed, epoch) + first)


def test_the_host_waits_for_the_device_when_it_is_some_chunks_ahead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waited: list[int] = []

    class Stream:
        queued = 0

        def record_event(self) -> Any:
            number = self.queued
            self.queued += 1
            return type("Event", (), {"synchronize": lambda self: waited.append(number)})()

    stream = Stream()
    monkeypatch.setattr("torch.cuda.current_stream", lambda device: stream)
    queue = CudaQueue(torch.device("cuda"))
    for _ in range(AHEAD + 2):
        queue.advance()
    assert waited == [0, 1]
