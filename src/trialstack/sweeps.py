"""Sweeps from Python, by its short name."""

from trialstack.cli.from_python import Swept, sweep

__all__ = ["Swept", "sweep"]
