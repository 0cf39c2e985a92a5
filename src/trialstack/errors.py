"""What ends a training early, other than a defect, by its short name."""

from trialstack.core.errors import Interrupted, UserError

__all__ = ["Interrupted", "UserError"]
