"""Steps that are recorded and replayed, as a GPU does it, against the same steps called plainly."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.conftest import composed
from tests.engine.stand_in import CALLED, RECORDED
from tests.engine.test_fake_cuda import DROPOUTS, OPTIMIZERS
from tests.engine.test_stacked import CHUNKS, DOUBLE, FIVE, assert_close, stack_of
from tests.run.test_runs import weights
from trialstack.data.minibatches import Samples
from trialstack.engine.execution import CPU, Execution
from trialstack.engine.losses import CrossEntropyLoss
from trialstack.engine.mlp_stack import Stack
from trialstack.engine.models import MLP
from trialstack.run.train import train

SAMPLES, BATCH, STEPS = 60, 8, 9


def trained(
    execution: Execution,
    monkeypatch: pytest.MonkeyPatch,
    optimizer: str,
    dropouts: list[float],
    activation: str,
    own_seeds: bool,
    hidden: list[int],
    losses: Sequence[CrossEntropyLoss] = (),
) -> list[Any]:
    """All that three epochs of chunks of several shapes leave, with validation between them."""
    monkeypatch.setattr("trialstack.engine.execution.on", lambda device: execution)
    torch.manual_seed(0)
    images, labels = torch.rand(SAMPLES, 1, 4, 5, dtype=torch.float64), torch.randint(3, (SAMPLES,))
    count = len(dropouts)
    networks = [MLP((1, 4, 5), 3, hidden, dropout, activation).double() for dropout in dropouts]
    for network in networks:
        nn.init.normal_(network[-1].bias)  # type: ignore[arg-type]
    settings = [OPTIMIZERS[optimizer]] * count
    stack = Stack(
        networks,
        range(count),
        settings,
        losses or [CrossEntropyLoss()] * count,
        Samples(images, labels),
        torch.float64,
    )
    left: list[Any] = []
    for epoch in range(3):
        rates = np.linspace(0.1, 0.01, STEPS * count).reshape(STEPS, count) / (epoch + 1)
        stack.begin_epoch(rates, first=STEPS * epoch, epoch=epoch, batch_size=BATCH)
        order = torch.stack([torch.randperm(SAMPLES) for _ in range(count if own_seeds else 1)])
        for start, end in ((0, 3), (3, 6), (6, 7)):
            minibatches = order[:, start * BATCH : end * BATCH].unflatten(1, (-1, BATCH))
            stack.train_chunk(minibatches, start)
        stack.train_chunk(order[:, None, 7 * BATCH :], 7)
        stack.validate(images.flatten(1), labels)
        left += [stack.train_totals.finish(), stack.val_totals.finish()]
        # what load_state does
        for tensor in (stack.parameters, *stack.optimizer.state.values()):
            values = stack.packing.read(tensor, 0)
            stack.packing.write(tensor, count - 1, [value / 2 for value in values])
    return [*left, stack.parameters.tolist(), [x.tolist() for x in stack.optimizer.state.values()]]


@pytest.mark.parametrize("dropouts", DROPOUTS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_replayed_chunk_does_what_the_plain_call_does(
    optimizer: str, dropouts: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    case = monkeypatch, optimizer, dropouts, "relu", True, [7, 6]
    assert trained(RECORDED, *case) == trained(CALLED, *case)


@pytest.mark.parametrize("own_seeds", [False, True])
@pytest.mark.parametrize("dropouts", DROPOUTS)
@pytest.mark.parametrize(
    ("activation", "hidden"),
    [
        ("gelu", [5]),
        ("tanh", [7, 6, 5]),
        ("silu", [7, 6]),
        ("leaky_relu", [5]),
        ("elu", [5]),
        ("relu", []),
    ],
)
def test_networks_of_any_kind_are_replayed(
    activation: str,
    hidden: list[int],
    dropouts: list[float],
    own_seeds: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case = monkeypatch, "adamw", dropouts, activation, own_seeds, hidden
    assert trained(RECORDED, *case) == trained(CALLED, *case)


@pytest.mark.parametrize("count", [1, 2])
def test_losses_of_any_kind_are_replayed(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = [CrossEntropyLoss(0.1, [0.5, 1.0, 2.0]), CrossEntropyLoss()][:count]
    case = monkeypatch, "sgd", [0.2] * count, "relu", True, [7], losses
    assert trained(RECORDED, *case) == trained(CALLED, *case)


@pytest.mark.parametrize("dropouts", [[0.2], [0.0, 0.2, 0.5]])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_branches_of_a_gpu_give_the_numbers_of_the_cpu(
    optimizer: str, dropouts: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    case = monkeypatch, optimizer, dropouts, "relu", True, [7, 6]
    of_gpu, of_cpu = trained(RECORDED, *case), trained(CPU, *case)
    for one, other in zip(of_gpu, of_cpu, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("group", ["optimizer=sgd", "optimizer=adamw"])
def test_a_fit_that_replays_is_the_fit_that_does_not(
    group: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = [[override for override in trial if "momentum" not in override] for trial in FIVE]
    common = (*DOUBLE, CHUNKS, group)
    train(stack_of(tmp_path / "cpu", trials, *common))
    monkeypatch.setattr("trialstack.engine.execution.on", lambda device: RECORDED)
    train(stack_of(tmp_path / "gpu", trials, *common))
    train([composed(tmp_path / "alone", *common, *trials[1])])
    for number in range(len(trials)):
        expected = weights(tmp_path / "cpu" / str(number), "last")
        assert_close(weights(tmp_path / "gpu" / str(number), "last"), expected)
    alone = weights(tmp_path / "alone", "last")
    assert_close(alone, weights(tmp_path / "cpu" / "1", "last"))
