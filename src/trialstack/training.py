"""Training from Python, by its short name."""

from trialstack.run.train import train

__all__ = ["train"]
