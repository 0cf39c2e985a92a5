"""How many samples and minibatches there are, and what must fit them.

Of this project's datasets it is known before they are read, and before torch is loaded.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from trialstack.core.errors import UserError
from trialstack.core.groups import TrainerConfig

EVALUATION_BATCH = 1000
"""Samples in a minibatch of validation and test: results do not depend on it."""


@dataclass(frozen=True)
class Dataset:
    """A dataset of this project.

    Attributes:
        name: of the dataset.
        samples: in its training set, of which the first `data.val_size` validate.
        downloads: it has a folder, `data.root`.
        pixels: of an image.
        classes: how many.
    """

    name: str
    samples: int
    downloads: bool = False
    pixels: int = 28 * 28
    classes: int = 10


DATASETS = {
    "trialstack.data.Digits": Dataset("Digits", 1500),
    "trialstack.data.MNIST": Dataset("MNIST", 60000, downloads=True),
    "trialstack.data.FashionMNIST": Dataset("Fashion-MNIST", 60000, downloads=True),
    "trialstack.data.KMNIST": Dataset("KMNIST", 60000, downloads=True),
    "trialstack.data.EMNIST": Dataset("EMNIST letters", 124800, downloads=True, classes=26),
    "trialstack.data.CIFAR10": Dataset("CIFAR-10", 50000, downloads=True, pixels=3 * 32 * 32),
}
"""By `data._target_`."""


def validating(samples: int, val_size: int, folds: int | None, fold: int) -> range:
    """Return which samples of a training set validate: the first `val_size`, or one of `folds`
    equal parts; what is left of the set after those always trains.
    """
    if folds is None:
        return range(val_size)
    size = samples // folds
    return range(fold * size, (fold + 1) * size)


def check_folds(dataset: str, samples: int, folds: int | None) -> None:
    """Check that each of `folds` has a sample.

    Raises:
        UserError: one has none.
    """
    if folds is not None and folds > samples:
        raise UserError(
            f"data.folds <= {samples} must hold (the training set of {dataset}), got {folds}; try "
            "data.folds=5"
        )


def check_class_weights(weights: Sequence[float], dataset: str, classes: int) -> None:
    """Check that each class has a weight.

    Raises:
        UserError: there are more or fewer.
    """
    if len(weights) != classes:
        raise UserError(
            f"loss.class_weights must have {classes} numbers, one a class of {dataset}, got "
            f"{len(weights)}; try loss.class_weights=balanced"
        )


def check_sizes(dataset: str, samples: int, val_size: int, batch_size: int) -> None:
    """Check a split and a minibatch against a training set of `samples`.

    Raises:
        UserError: they do not fit it.
    """
    if val_size >= samples:
        raise UserError(
            f"data.val_size < {samples} must hold (the training set of {dataset}), got {val_size}; "
            f"try data.val_size={samples // 10}"
        )
    if batch_size > samples - val_size:
        raise UserError(
            f"data.batch_size <= {samples - val_size} must hold (the training samples of "
            f"{dataset}), got {batch_size}; try data.batch_size={min(32, samples - val_size)}"
        )


def check_limits(trainer: TrainerConfig, train: int, val: int) -> None:
    """Check what limits the minibatches of an epoch against how many there are.

    Args:
        trainer: the `trainer` group.
        train: minibatches of training, before `limit_train_batches`.
        val: of validation.

    Raises:
        UserError: none would be left.
    """
    if trainer.fast_dev_run:  # which has the place of all these
        return
    steps = epoch_steps(train, trainer.limit_train_batches)
    for key, limit, there in (
        ("limit_val_batches", trainer.limit_val_batches, val),
        ("overfit_batches", trainer.overfit_batches, min(train, val)),
    ):
        if limit:
            _limited(key, limit, there)
    interval = trainer.val_check_interval
    if type(interval) is int and interval > steps:
        raise UserError(
            f"trainer.val_check_interval <= {steps} must hold (minibatches of an epoch), got "
            f"{interval}; try trainer.val_check_interval=1.0"
        )


def epoch_steps(minibatches: int, limit: int | float) -> int:
    """Return the optimizer steps in an epoch under Lightning's `limit_train_batches`, a number or a
    part of them.

    Raises:
        UserError: there are none.
    """
    return _limited("limit_train_batches", limit, minibatches)


def _limited(key: str, limit: int | float, minibatches: int) -> int:
    kept = min(minibatches, limit) if isinstance(limit, int) else int(minibatches * limit)
    if kept == 0:
        raise UserError(
            f"trainer.{key} >= {1 / minibatches:.2g} must hold (one of {minibatches} minibatches), "
            f"got {limit}; try trainer.{key}=1.0"
        )
    return kept
