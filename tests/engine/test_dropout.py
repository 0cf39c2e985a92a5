"""Dropout's random numbers: known values, who shares them, and how they are distributed."""

import pytest
import torch
from torch import Tensor

from trialstack.engine.dropout import Dropout, mixed_


def drawn(
    probabilities: list[float],
    seeds: list[int],
    widths: list[int],
    first: int = 0,
    epoch: int = 0,
    batch_size: int = 8,
) -> list[Tensor]:
    """Masks [S, B, H] of one step."""
    dropout = Dropout(probabilities, widths, [len(seeds)], torch.ones(()))
    dropout.begin_epoch(seeds, epoch)
    masks = dropout.draw(torch.tensor([first]), batch_size)
    return [mask[0, :, :, :width] for mask, width in zip(masks, widths, strict=True)]


def test_words_are_those_of_splitmix64() -> None:
    golden = 0x9E3779B97F4A7C15 - 2**64
    words = golden * torch.arange(1, 4)
    expected = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]  # for the seed 0
    assert [word % 2**64 for word in mixed_(words).tolist()] == expected


def test_a_unit_depends_on_seed_epoch_sample_and_place_alone() -> None:
    [alone, above] = drawn([0.3], [1], [50, 6])
    [stacked, _] = drawn([0.1, 0.3, 0.0], [0, 1, 2], [70, 6])
    assert torch.equal(alone[0], stacked[1, :, :50])
    assert torch.equal(stacked[2], torch.ones_like(stacked[2]))
    assert not torch.equal(alone[0, :, :6], above[0])
    [later, _] = drawn([0.3], [1], [50, 6], first=3)
    assert torch.equal(later[0, :5], alone[0, 3:])
    [next_epoch, _] = drawn([0.3], [1], [50, 6], epoch=1)
    assert not torch.equal(next_epoch, alone)


@pytest.mark.parametrize("probability", [0.2, 0.5, 0.9])
def test_units_are_dropped_independently_with_their_trials_probability(
    probability: float,
) -> None:
    [mask] = drawn([probability], [5], [400], batch_size=4000)
    dropped_BH = (mask[0] == 0).double() - probability
    deviation = (probability * (1 - probability)) ** 0.5
    bound = 6 * deviation / dropped_BH.numel() ** 0.5
    assert abs(dropped_BH.mean()) < bound
    for samples, units in ((0, 1), (0, 4), (1, 0), (1, 1), (64, 0)):
        shifted_BH = dropped_BH.roll((samples, units), (0, 1))
        assert abs((dropped_BH * shifted_BH).mean()) < bound * deviation
    for dim in (0, 1):
        means = dropped_BH.mean(dim) * dropped_BH.shape[dim] ** 0.5 / deviation
        assert means.abs().max() < 6
        assert means.std() == pytest.approx(1, abs=0.25)


@pytest.mark.parametrize(("probability", "dropped"), [(0.0, 0.0), (1 - 1e-9, 1.0)])
def test_probabilities_at_their_ends(probability: float, dropped: float) -> None:
    [mask] = drawn([probability], [5], [64], batch_size=64)
    assert (mask == 0).double().mean() == pytest.approx(dropped, abs=0.002)
