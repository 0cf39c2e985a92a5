"""The maths of the stack against autograd: gradients, forward, dropout, metrics."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from trialstack.data.minibatches import Samples
from trialstack.engine.activations import ACTIVATIONS
from trialstack.engine.losses import CrossEntropyLoss
from trialstack.engine.mlp_stack import Stack
from trialstack.engine.models import MLP

SAMPLES = 50


def samples() -> Samples:
    torch.manual_seed(0)
    return Samples(torch.rand(SAMPLES, 1, 4, 5, dtype=torch.float64), torch.randint(3, (SAMPLES,)))


def networks(
    count: int, hidden: Sequence[int], activation: str = "relu", dropout: float = 0.0
) -> list[MLP]:
    made = []
    for seed in range(count):
        torch.manual_seed(seed)
        made.append(MLP((1, 4, 5), 3, hidden, dropout, activation).double())
        for parameter in made[-1].parameters():  # biases that are not zero
            nn.init.normal_(parameter, std=0.5)
    return made


def stack(
    made: Sequence[MLP],
    lrs: Sequence[float] | None = None,
    dropouts: Sequence[float] = (),
    losses: Sequence[CrossEntropyLoss] = (),
) -> Stack:
    rates = lrs or [1.0] * len(made)
    settings = [{"_target_": "torch.optim.SGD", "lr": lr} for lr in rates]
    for network, dropout in zip(made, dropouts, strict=False):
        network.dropout = dropout
    built = Stack(
        made,
        range(len(made)),
        settings,
        losses or [CrossEntropyLoss()] * len(made),
        samples(),
        torch.float64,
    )
    built.begin_epoch(np.array([rates] * 20), first=0, epoch=2, batch_size=8)
    return built


def autograd_step(network: MLP, index: Tensor) -> list[Tensor]:
    """Parameters after a step of plain gradient descent with rate 1."""
    images, labels = samples()
    loss = cross_entropy(network(images[index]), labels[index])
    gradients = torch.autograd.grad(loss, list(network.parameters()))
    return [p.detach() - g for p, g in zip(network.parameters(), gradients, strict=True)]


WEIGHTS = [0.5, 2.0, 3.5]
LOSSES = {
    "smoothing": [CrossEntropyLoss(0.1)],
    "weights": [CrossEntropyLoss(class_weights=WEIGHTS)],
    "each its own": [
        CrossEntropyLoss(0.3, WEIGHTS), CrossEntropyLoss(), CrossEntropyLoss(0.1, WEIGHTS[::-1]),
    ],
}  # fmt: skip


@pytest.mark.parametrize("losses", LOSSES.values(), ids=LOSSES)
def test_losses_and_their_gradients_are_those_of_torch(losses: list[CrossEntropyLoss]) -> None:
    made = networks(len(losses), [7])
    built = stack(made, losses=losses)
    images, labels = samples()
    index = torch.randperm(SAMPLES)[:8]
    built.train_chunk(index.view(1, 1, 8), start=0)
    of_stack, _ = built.train_totals.finish()
    for trial, (network, loss) in enumerate(zip(made, losses, strict=True)):
        weight = loss.weights_C
        of_torch = nn.CrossEntropyLoss(weight, label_smoothing=loss.label_smoothing)(
            network(images[index]), labels[index]
        )
        assert of_stack[trial] == pytest.approx(of_torch.item(), rel=1e-10)
        gradients = torch.autograd.grad(of_torch, list(network.parameters()))
        values = built.packing.read(built.parameters, trial)
        for value, before, gradient in zip(values, network.parameters(), gradients, strict=True):
            torch.testing.assert_close(value, before.detach() - gradient, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("hidden", [[], [7], [7, 6], [7, 6, 5]])
def test_gradients_are_those_of_autograd(hidden: list[int], activation: str, count: int) -> None:
    made = networks(count, hidden, activation)
    built = stack(made)
    index = torch.randperm(SAMPLES)[:8]
    built.train_chunk(index.view(1, 1, 8), start=0)
    for trial, network in enumerate(made):
        values = built.packing.read(built.parameters, trial)
        for value, expected in zip(values, autograd_step(network, index), strict=True):
            torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("rates", [[0.01], [0.01, 0.03, 0.1]])
@pytest.mark.parametrize("batch_size", [3, 6, 10])
def test_samples_that_are_classified_with_certainty_change_no_bit(
    rates: list[float], batch_size: int
) -> None:
    made = [network.float() for network in networks(len(rates), [])]
    for network in made:
        linear = network[-1]
        assert isinstance(linear, nn.Linear)
        nn.init.zeros_(linear.weight)
        linear.bias.data = torch.tensor([0.0, 1000.0, 0.0])
    settings = [{"_target_": "torch.optim.SGD", "lr": rate} for rate in rates]
    images, labels = samples()
    built = Stack(
        made,
        range(len(made)),
        settings,
        [CrossEntropyLoss()] * len(made),
        Samples(images, torch.ones_like(labels)),
        torch.float32,
    )
    built.begin_epoch(np.array([rates]), first=0, epoch=0, batch_size=batch_size)
    before = built.parameters.clone()
    built.train_chunk(torch.arange(batch_size).view(1, 1, -1), start=0)
    assert torch.equal(built.parameters, before)


def test_a_long_sum_is_the_same_in_two_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    made = networks(1, [30, 7])
    index = torch.arange(16).view(1, 2, 8)
    whole, halved = stack(made), stack(made)
    whole.halves = False
    monkeypatch.setattr(
        "trialstack.engine.mlp_stack.LONG_SUM", 20
    )  # forwards 20 pixels and 30 units, backwards those units
    for built in (whole, halved):
        built.train_chunk(index, start=0)
    torch.testing.assert_close(halved.parameters, whole.parameters, rtol=1e-12, atol=1e-12)
    assert not torch.equal(halved.parameters, whole.parameters)


def test_trials_with_other_seeds_get_their_own_minibatches() -> None:
    made = networks(3, [6])
    built = stack(made)
    index_nKB = torch.stack([torch.randperm(SAMPLES)[:8] for _ in made])[:, None]
    built.train_chunk(index_nKB, start=0)
    for trial, network in enumerate(made):
        for value, expected in zip(
            built.packing.read(built.parameters, trial),
            autograd_step(network, index_nKB[trial, 0]),
            strict=True,
        ):
            torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("count", [1, 3])
def test_the_forward_pass_is_the_networks(count: int) -> None:
    made = networks(count, [6, 5], "gelu")
    images = samples().images
    logits_SBC = stack(made).forward(images.flatten(1))
    for trial, network in enumerate(made):
        torch.testing.assert_close(
            logits_SBC[trial], network(images).detach(), rtol=1e-12, atol=1e-12
        )


@pytest.mark.parametrize("probabilities", [[0.4], [0.4, 0.4], [0.4, 0.0, 0.1]])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_dropout_masks_values_and_gradients(activation: str, probabilities: list[float]) -> None:
    made = networks(len(probabilities), [7, 6], activation)
    built = stack(made, dropouts=probabilities)
    assert built.dropout is not None
    index = torch.randperm(SAMPLES)[:8]
    masks = built.dropout.draw(torch.tensor([0]), 8)
    images, labels = samples()
    expected = []
    for trial, (network, probability) in enumerate(zip(made, probabilities, strict=True)):
        values = images[index].flatten(1)
        for layer, mask in zip((1, 3), masks, strict=True):
            kept = mask.view(len(made), 8, -1)[trial, :, : network[layer].out_features] > 0
            values = network[layer + 1](network[layer](values)) * kept / (1 - probability)
        gradients = torch.autograd.grad(
            cross_entropy(network[5](values), labels[index]), list(network.parameters())
        )
        expected.append(
            [p.detach() - g for p, g in zip(network.parameters(), gradients, strict=True)]
        )
    built.train_chunk(index.view(1, 1, 8), start=0)
    for trial, wanted in enumerate(expected):
        for value, other in zip(built.packing.read(built.parameters, trial), wanted, strict=True):
            torch.testing.assert_close(value, other, rtol=1e-10, atol=1e-10)


def test_totals_are_means_over_samples_by_trial() -> None:
    made = networks(2, [6])
    built = stack(made)
    images, labels = samples()
    for part in torch.arange(SAMPLES).split(16):
        built.validate(images[part].flatten(1), labels[part])
    losses, accuracies = built.val_totals.finish()
    for trial, network in enumerate(made):
        logits = network(images).detach()
        assert losses[trial] == pytest.approx(float(cross_entropy(logits, labels)), rel=1e-12)
        assert accuracies[trial] == int((logits.argmax(1) == labels).sum()) / SAMPLES


def test_training_totals_are_of_the_weights_before_each_step() -> None:
    made = networks(2, [6])
    built = stack(made)
    index = torch.randperm(SAMPLES)[:16].view(1, 2, 8)
    images, labels = samples()
    losses_KS = []
    for step in index[0]:
        losses_KS.append(
            [float(cross_entropy(network(images[step]), labels[step]).detach()) for network in made]
        )
        for network in made:
            nn.utils.vector_to_parameters(
                nn.utils.parameters_to_vector(autograd_step(network, step)), network.parameters()
            )
    built.train_chunk(index[:, :1], start=0)
    assert built.train_totals.finish()[0] == pytest.approx(losses_KS[0], rel=1e-12)
    built.train_chunk(index[:, 1:], start=1)
    assert built.train_totals.finish()[0] == pytest.approx(losses_KS[1], rel=1e-10)
    together = stack(networks(2, [6]))
    together.train_chunk(index, start=0)
    assert together.train_totals.finish()[0] == pytest.approx(np.mean(losses_KS, axis=0), rel=1e-10)


@pytest.mark.parametrize("bad", [float("nan"), 1e300])
def test_a_trial_that_diverges_changes_no_bit_of_the_others(bad: float) -> None:
    def trained(lrs: list[float]) -> Stack:
        built = stack(networks(4, [7, 6]), lrs=lrs)
        for chunk in range(3):
            index_nKB = torch.arange(40).view(1, 5, 8)
            built.train_chunk(index_nKB, start=5 * chunk)
        return built

    healthy, infected = trained([0.1, 0.2, 0.3, 0.4]), trained([0.1, bad, 0.3, 0.4])
    assert not all(
        value.isfinite().all() for value in infected.packing.read(infected.parameters, 1)
    )
    for trial in (0, 2, 3):
        for value, expected in zip(
            infected.packing.read(infected.parameters, trial),
            healthy.packing.read(healthy.parameters, trial),
            strict=True,
        ):
            assert torch.equal(value, expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_replayed_graph_does_what_the_cpu_does() -> None:
    def trained(device: str) -> Stack:
        made = networks(3, [7, 6])
        settings = [{"_target_": "torch.optim.Adam", "lr": lr} for lr in (0.01, 0.02, 0.03)]
        built = Stack(
            made,
            [0, 1, 2],
            settings,
            [CrossEntropyLoss()] * 3,
            samples().to(torch.device(device)),
            torch.float64,
        )
        built.begin_epoch(np.array([[0.01, 0.02, 0.03]] * 30), first=0, epoch=0, batch_size=8)
        for chunk in range(6):
            index_1KB = torch.arange(40, device=device).roll(chunk).view(1, 5, 8)
            built.train_chunk(index_1KB, start=5 * chunk)
        return built

    cpu, gpu = trained("cpu"), trained("cuda")
    torch.testing.assert_close(gpu.parameters.cpu(), cpu.parameters, rtol=1e-9, atol=1e-9)
    assert gpu.train_totals.finish()[0] == pytest.approx(cpu.train_totals.finish()[0], rel=1e-9)
