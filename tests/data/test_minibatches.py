"""Minibatches: what is in them, in which order, and what they depend on."""

import pytest
import torch

from trialstack.core.random_streams import stream
from trialstack.data.minibatches import (
    OrderedMinibatches,
    Samples,
    ShuffledMinibatches,
    epoch_order,
    share,
)


def samples(count: int) -> Samples:
    labels = torch.arange(count)
    return Samples(labels.float().reshape(-1, 1, 1, 1).expand(-1, 1, 2, 2).contiguous(), labels)


def labels_of(minibatches: ShuffledMinibatches) -> list[int]:
    return [int(label) for _, labels in minibatches for label in labels]


def test_an_epoch_has_every_sample_once_and_a_smaller_last_minibatch() -> None:
    minibatches = ShuffledMinibatches(samples(10), batch_size=4, seed=1)
    assert sorted(labels_of(minibatches)) == list(range(10))
    assert [len(labels) for _, labels in minibatches] == [4, 4, 2]
    assert len(minibatches) == 3


def test_images_come_with_their_labels() -> None:
    for images, labels in ShuffledMinibatches(samples(10), 3, seed=1):
        assert torch.equal(images[:, 0, 0, 0], labels.float())


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    assert torch.equal(epoch_order(100, 1, 2), epoch_order(100, 1, 2))
    assert not torch.equal(epoch_order(100, 1, 2), epoch_order(100, 1, 3))
    assert not torch.equal(epoch_order(100, 1, 2), epoch_order(100, 2, 2))
    assert stream(1, 2) != stream(2, 1)


def test_set_epoch_moves_to_another_order() -> None:
    minibatches = ShuffledMinibatches(samples(50), 8, seed=1)
    first = labels_of(minibatches)
    minibatches.sampler.set_epoch(1)
    assert labels_of(minibatches) != first
    minibatches.sampler.set_epoch(0)
    assert labels_of(minibatches) == first


@pytest.mark.parametrize(("size", "processes"), [(32, 2), (7, 2), (1, 3), (5, 4)])
def test_processes_get_equally_long_shares_that_cover_the_minibatch(
    size: int, processes: int
) -> None:
    shares = [share(torch.arange(size), rank, processes) for rank in range(processes)]
    assert len({len(part) for part in shares}) == 1
    assert set(torch.cat(shares).tolist()) == set(range(size))


def test_evaluation_sees_every_sample_once_over_all_processes() -> None:
    seen = [
        int(x)
        for rank in range(3)
        for _, labels in OrderedMinibatches(samples(25), 4, rank, 3)
        for x in labels
    ]
    assert sorted(seen) == list(range(25))


def noisy(image: torch.Tensor) -> torch.Tensor:
    return image + torch.rand(())


def test_augmentation_is_drawn_anew_for_every_image_and_repeats_with_the_seed() -> None:
    minibatches = ShuffledMinibatches(samples(20), 5, seed=1, augment=noisy)
    noise = [images[:, 0, 0, 0] - labels for images, labels in minibatches]
    again = [images[:, 0, 0, 0] - labels for images, labels in minibatches]
    assert len(torch.cat(noise).unique()) == 20
    assert torch.equal(torch.cat(noise), torch.cat(again))


def test_augmentation_leaves_the_generator_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    list(ShuffledMinibatches(samples(20), 5, seed=1, augment=noisy))
    assert torch.equal(torch.rand(4), expected)
