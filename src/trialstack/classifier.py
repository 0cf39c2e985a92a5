"""The classifier that checkpoints load, by its short name."""

from trialstack.engine.eager import Classifier

__all__ = ["Classifier"]
