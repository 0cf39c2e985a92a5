"""A stack's steps with fake CUDA tensors: on the right device, without waiting, in few kernels."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.engine.stand_in import CALLED, Kernels
from trialstack.data.minibatches import Samples
from trialstack.engine.losses import CrossEntropyLoss
from trialstack.engine.mlp_stack import Stack
from trialstack.engine.models import MLP

OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": {"_target_": "torch.optim.SGD", "lr": 0.1},
    "decay": {"_target_": "torch.optim.SGD", "lr": 0.1, "weight_decay": 0.01},
    "momentum": {"_target_": "torch.optim.SGD", "lr": 0.1, "momentum": 0.9},
    "nesterov": {
        "_target_": "torch.optim.SGD",
        "lr": 0.1,
        "momentum": 0.9,
        "nesterov": True,
        "weight_decay": 0.01,
    },
    "adam": {"_target_": "torch.optim.Adam", "lr": 0.1},
    "adam and decay": {"_target_": "torch.optim.Adam", "lr": 0.1, "weight_decay": 0.01},
    "adamw": {"_target_": "torch.optim.AdamW", "lr": 0.1},
    "rmsprop": {"_target_": "torch.optim.RMSprop", "lr": 0.1, "momentum": 0.9},
    "adagrad": {"_target_": "torch.optim.Adagrad", "lr": 0.1, "weight_decay": 0.01},
}
STEPS, SAMPLES, BATCH = 6, 100, 8


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every tensor is fake, and a chunk is called where a GPU would replay it."""
    monkeypatch.setattr("trialstack.engine.execution.CUDA", CALLED)
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield


def stack(
    optimizer: str,
    dropouts: list[float],
    hidden: list[int],
    activation: str = "relu",
    dtype: torch.dtype = torch.float32,
    losses: Sequence[CrossEntropyLoss] = (),
) -> Stack:
    count = len(dropouts)
    networks = [MLP((1, 28, 28), 10, hidden, dropout, activation) for dropout in dropouts]
    images = torch.empty(SAMPLES, 1, 28, 28, device="cuda")
    labels = torch.empty(SAMPLES, dtype=torch.int64, device="cuda")
    settings = [OPTIMIZERS[optimizer]] * count
    built = Stack(
        networks,
        range(count),
        settings,
        losses or [CrossEntropyLoss()] * count,
        Samples(images, labels),
        dtype,
    )
    built.begin_epoch(np.full((STEPS, count), 0.1), first=0, epoch=0, batch_size=BATCH)
    return built


def indices(rows: int, steps: int, batch_size: int = BATCH) -> Tensor:
    return torch.empty(rows, steps, batch_size, dtype=torch.int64, device="cuda")


DROPOUTS = [[0.0], [0.2], [0.0] * 3, [0.2] * 3, [0.0, 0.2, 0.5]]
"""Of one trial, and of three."""


def check_an_epoch(built: Stack, rows: int) -> None:
    """Train, validate, read and write."""
    with Kernels():
        built.train_chunk(indices(rows, 4), start=0)
        built.train_chunk(indices(rows, 4), start=0)  # from its second call on it is replayed
        built.train_chunk(indices(rows, 1, 3), start=4)
        built.validate(
            built.parameters.new_empty(50, built.widths[0]),
            torch.empty(50, dtype=torch.int64, device="cuda"),
        )
    built.keep([0])
    assert built.best is not None
    for tensor in (built.parameters, built.best, *built.optimizer.state.values()):
        values = built.packing.read(tensor, built.size - 1)
        assert {value.device.type for value in values} == {"cpu"}
        built.packing.write(tensor, 0, values)


@pytest.mark.parametrize("dropouts", DROPOUTS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_all_that_an_optimizer_does_stays_on_the_device(
    optimizer: str, dropouts: list[float]
) -> None:
    check_an_epoch(stack(optimizer, dropouts, [7, 6]), rows=1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("dropouts", DROPOUTS)
@pytest.mark.parametrize(
    ("activation", "hidden"),
    [
        ("relu", [7]),
        ("tanh", [7, 6, 5]),
        ("gelu", [300]),
        ("silu", [7, 6]),
        ("leaky_relu", [7]),
        ("elu", [7]),
        ("relu", []),
    ],
)
def test_all_that_a_network_does_stays_on_the_device(
    activation: str, hidden: list[int], dropouts: list[float], dtype: torch.dtype
) -> None:
    check_an_epoch(stack("adamw", dropouts, hidden, activation, dtype), rows=len(dropouts))


def test_all_that_a_loss_does_stays_on_the_device() -> None:
    losses = [CrossEntropyLoss(0.1), CrossEntropyLoss(class_weights=[0.5] * 10)]
    check_an_epoch(stack("sgd", [0.0, 0.2], [7], losses=losses), rows=1)


MOST = {
    "sgd": 14,
    "decay": 15,
    "momentum": 16,
    "nesterov": 21,
    "adam": 15,
    "adam and decay": 15,
    "adamw": 15,
    "rmsprop": 23,
    "adagrad": 20,
}
"""Kernels of a step with two hidden layers, by optimizer; without Triton Adam has 7 more."""


@pytest.mark.parametrize("dropouts", [[0.0], [0.2], [0.0] * 3, [0.2] * 3])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_step_has_few_kernels(optimizer: str, dropouts: list[float]) -> None:
    assert (
        kernels(optimizer, dropouts, STEPS) - kernels(optimizer, dropouts, STEPS - 1)
        <= (MOST[optimizer])
    )


@pytest.mark.parametrize("dropouts", [[0.0], [0.2], [0.2] * 3])
def test_a_chunk_has_few_kernels_besides_those_of_its_steps(dropouts: list[float]) -> None:
    of_step = kernels("sgd", dropouts, STEPS) - kernels("sgd", dropouts, STEPS - 1)
    assert kernels("sgd", dropouts, STEPS) - STEPS * of_step <= 40


def kernels(optimizer: str, dropouts: list[float], steps: int) -> int:
    built = stack(optimizer, dropouts, [300, 100])
    with Kernels() as counted:
        built._steps(indices(1, steps), built.table_QKS[:, :steps], built.first_K[:steps])
    return sum(counted.counts.values())
