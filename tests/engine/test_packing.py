"""Where parameters lie: aligned, and each trial's at its own widths."""

import pytest
import torch

from trialstack.engine.packing import Packing

WIDTHS = [[20, 7, 3], [20, 5, 3], [20, 2, 3]]


@pytest.mark.parametrize("count", [1, 3])
def test_rows_of_every_layer_and_trial_are_aligned_to_16_bytes(count: int) -> None:
    packing = Packing(WIDTHS[:count])
    packed = packing.zeros(torch.device("cpu"), torch.float32)
    for matrix in packing.matrices(packed):
        for trial in matrix if count > 1 else [matrix]:
            for row in trial:
                assert (row.data_ptr() - packed.data_ptr()) % 16 == 0


def test_what_is_written_of_a_trial_is_read_again_and_nothing_else_changes() -> None:
    packing = Packing(WIDTHS)
    packed = packing.zeros(torch.device("cpu"), torch.float32)
    written = []
    for index, (pixels, hidden, classes) in enumerate(WIDTHS):
        shapes = [(hidden, pixels), (hidden,), (classes, hidden), (classes,)]
        written.append([torch.rand(shape) + 1 for shape in shapes])
        packing.write(packed, index, written[-1])
    for index, values in enumerate(written):
        for value, expected in zip(packing.read(packed, index), values, strict=True):
            assert torch.equal(value, expected)
            assert value.is_contiguous()
    assert packed.count_nonzero() == sum(value.numel() for values in written for value in values)


def test_biases_are_the_last_row_of_their_layers_matrix() -> None:
    packing = Packing(WIDTHS[:1])
    packed = packing.zeros(torch.device("cpu"), torch.float64)
    packing.of_trial(packed, 0)[1].fill_(5)
    first, second = packing.matrices(packed)
    assert (first.shape, second.shape) == ((21, 7), (8, 3))
    assert first[-1].tolist() == [5] * 7
    assert first.sum() == 35
