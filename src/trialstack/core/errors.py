"""What ends a command early, other than a defect."""

import errno
import os
from pathlib import Path

from hydra.errors import CompactHydraException

_FULL = (errno.ENOSPC, errno.EDQUOT)
UNWRITABLE = (*_FULL, errno.EROFS, errno.EACCES, errno.EPERM)
"""Errors of a file or folder that other times, or another user, could write."""


class UserError(CompactHydraException):
    """The user's mistake, or an input that is missing or corrupt: exit code 2.

    The message is one line that names the rule, the value and the remedy.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.splitlines()))  # what it quotes may have several


class CannotWrite(UserError):
    """The disk is full or cannot be written.

    Args:
        what: cannot be written, why, and the remedy.
        continues: the command that does once that is done.
    """

    def __init__(self, what: str, continues: str) -> None:
        super().__init__(f"{what}, then {continues} continues")
        self.what = what
        self.continues = continues

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        """Let it come from another process."""
        return type(self), (self.what, self.continues)


class Interrupted(Exception):
    """Ctrl-C, SIGTERM or SIGHUP during a run: exit code 130.

    The message is the command that resumes it.
    """


class TrialsFailed(Exception):
    """Trials of a sweep failed: exit code 1. The message is one line."""


class Diverged(Exception):
    """A loss became NaN or infinite in `epoch`, counted from 1."""

    def __init__(self, epoch: int) -> None:
        super().__init__(f"the loss became NaN or infinite in epoch {epoch}")
        self.epoch = epoch

    def __reduce__(self) -> tuple[type, tuple[int]]:
        return type(self), (self.epoch,)


def cannot_write(error: OSError, folder: Path) -> str:
    """Return what cannot be written (`folder`, if `error` does not say), why, and the remedy."""
    remedy = "make room there" if error.errno in _FULL else "make it writable"
    return f"cannot write {os.path.relpath(error.filename or folder)}: {error.strerror}; {remedy}"


def quoted(value: object) -> str:
    """Return a value of a config for a message, a long one shortened."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:60]}... ({len(text)} characters)"


def reason(error: Exception) -> str:
    """Return what an exception says, in one line."""
    text = " ".join(str(error).split())
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"
