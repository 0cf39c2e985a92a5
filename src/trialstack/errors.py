"""What ends a command early, other than a defect."""

from hydra.errors import CompactHydraException


class UserError(CompactHydraException):
    """The user's mistake, or an input that is missing or corrupt: exit code 2.

    The message is one line that names the rule, the value and the remedy.
    """


class Interrupted(Exception):
    """Ctrl-C or SIGTERM during a run: exit code 130. The message is the command that resumes it."""


class Diverged(Exception):
    """A loss became NaN or infinite in `epoch`, counted from 1."""

    def __init__(self, epoch: int) -> None:
        super().__init__(f"the loss became NaN or infinite in epoch {epoch}")
        self.epoch = epoch
