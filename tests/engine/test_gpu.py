"""What needs a GPU: `pytest -m gpu`, by itself, for other tests hide it."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from trialstack.engine.adam_update import adam, compiled, formula
from trialstack.engine.cuda_graph import CudaGraphs
from trialstack.engine.device_queue import CudaQueue
from trialstack.engine.replay import Replay

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU and -m gpu"),
]

GPU = torch.device("cuda", 0)


@pytest.mark.parametrize("trials", [1, 3])
@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 2e-6), (torch.float64, 1e-14)])
def test_adam_is_one_kernel_that_does_what_the_formula_does(
    trials: int, decoupled: bool, dtype: torch.dtype, bound: float
) -> None:
    assert compiled(GPU) is not None
    own = torch.rand(4, trials, 1, 2501, dtype=dtype)
    numbers = list(torch.rand(6, trials, 1, 1, dtype=dtype))
    expected, on_gpu = own.clone(), own.to(GPU)
    formula(expected[0], expected[1], expected[2], expected[3], numbers, decoupled)
    on_device = [number.to(GPU) for number in numbers]
    adam(on_gpu[0], on_gpu[1], on_gpu[2], on_gpu[3], on_device, decoupled)
    for at in (0, 2, 3):
        torch.testing.assert_close(on_gpu[at].cpu(), expected[at], rtol=bound, atol=bound)


def test_a_replayed_function_does_what_it_did_with_new_inputs() -> None:
    total = torch.zeros(3, device=GPU)

    def add(values: Tensor) -> None:
        total.add_(values.sum(0))

    replay, expected = Replay(CudaGraphs()), torch.zeros(3)
    for call in range(5):
        for rows in (2, 4):
            values = torch.full((rows, 3), float(call))
            replay(add, values.to(GPU))
            expected += values.sum(0)
    assert torch.equal(total.cpu(), expected)


def test_tensors_come_and_go() -> None:
    queue = CudaQueue(GPU)
    values = torch.arange(1000)
    sent = queue.send(values)
    for _ in range(10):
        queue.advance()
    [fetched] = queue.fetch([sent * 2])
    assert torch.equal(fetched, values * 2)


def test_a_run_on_a_device_by_its_number(command: Callable[..., Any], tmp_path: Any) -> None:
    ended = command("train.py", "trainer.devices=[0]", "trainer.max_epochs=2", "hydra.run.dir=run")
    assert ended.code == 0, ended.err
    result = json.loads((tmp_path / "run/result.json").read_text())
    assert result["device"].startswith("cuda:0")
