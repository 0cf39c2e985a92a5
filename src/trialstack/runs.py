"""What can be asked of trained runs from Python, by its short name."""

from trialstack.run.trained import evaluate, predict

__all__ = ["evaluate", "predict"]
