"""Losses, by their short name."""

from trialstack.engine.losses import CrossEntropyLoss

__all__ = ["CrossEntropyLoss"]
