"""The progress bar of an epoch, by its short name."""

from trialstack.run.progress import EpochBar

__all__ = ["EpochBar"]
