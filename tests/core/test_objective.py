"""Metrics by their names: which way is better, and in which order they are shown."""

import pytest

from trialstack.core.objective import METRIC, direction
from trialstack.run.history import line
from trialstack.run.metrics_csv import EpochRow, metrics


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("val/loss", "min"),
        ("val_loss", "min"),
        ("val/recon_loss", "min"),
        ("val/rmse", "min"),
        ("val/MeanAbsoluteError", "min"),
        ("val/acc", "max"),
        ("val/f1", "max"),
        ("loss/auroc", "max"),  # a part of that name
    ],
)
def test_losses_and_errors_are_to_fall_and_all_else_to_rise(name: str, expected: str) -> None:
    assert direction(name) == expected


@pytest.mark.parametrize("name", ["test/acc", "epoch", "lr", "", "val/a b", "val/a,b", "val/\n", 3])
def test_an_objective_is_a_metric_of_training_or_validation(name: object) -> None:
    assert not METRIC.holds(name)


ROW: EpochRow = {"epoch": 1, "step": 38, "val/loss": 0.5, "lr": 0.1, "train/loss": 0.25}


def test_metrics_of_training_come_first() -> None:
    row = ROW | {"elbo": 3.0, "val/f1": 0.75, "seconds": 1.0}
    assert metrics([ROW, row]) == ["train/loss", "val/loss", "val/f1", "elbo"]


def test_the_line_of_an_epoch_has_every_metric_once() -> None:
    row = ROW | {"val/f1": 0.75, "elbo": 3.0, "seconds": 1.5}
    shown = "epoch 1/9   1.5 s  loss 0.2500 val 0.5000  f1 val 0.7500  elbo 3.0000  lr 0.1"
    assert line([row], 9) == shown
