"""Networks, by its short name."""

from trialstack.engine.models import ACTIVATIONS, MLP

__all__ = ["ACTIVATIONS", "MLP"]
