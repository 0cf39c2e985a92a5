"""What the LightningModules of both engines have in common for callbacks."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from lightning.pytorch import LightningModule, Trainer

from trialstack.data.minibatches import Batch


class Outcome(NamedTuple):
    """How the training of a trial came out.

    Attributes:
        diverged: the epoch (from 1) in which it had a loss that is not finite; None if it did not.
    """

    diverged: int | None = None


class TrainsOne:
    """What all that trains one trial, a minibatch a step, answers alike."""

    diverged: dict[int, int]

    def outcomes(self) -> list[Outcome]:
        return [Outcome(self.diverged.get(0))]

    def minibatches_in(self, batch: Batch) -> int:
        return 1

    def samples_in(self, batch: Batch) -> int:
        return len(batch[1])


@runtime_checkable
class TrainsTrials(Protocol):
    """A module that trains one trial or several.

    Attributes:
        trial_metrics: of each trial, the last value of every metric.
        diverged: epochs (from 1) in which trials (by position) had a loss that is not finite.
        ended: trials whose training ended early, in an epoch before this one.
        minibatches: optimizer steps in an epoch.
    """

    trial_metrics: list[dict[str, float]]
    diverged: dict[int, int]
    ended: set[int]

    @property
    def minibatches(self) -> int: ...

    def outcomes(self) -> Sequence[Outcome]:
        """Return how the trials came out, by position."""
        ...

    def minibatches_in(self, batch: Any) -> int:
        """Return the number of minibatches that a `training_step` gets."""
        ...

    def samples_in(self, batch: Any) -> int:
        """Return the number of samples that each trial trains on in a `training_step`."""
        ...


def trains_trials(trainer: Trainer, module: LightningModule) -> TrainsTrials:
    """Return what says how trials come on: the module, or the callback that watches a module that
    knows nothing of them.
    """
    if isinstance(module, TrainsTrials):
        return module
    callbacks: list[object] = trainer.callbacks  # type: ignore[attr-defined]
    return next(callback for callback in callbacks if isinstance(callback, TrainsTrials))
