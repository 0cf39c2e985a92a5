"""How a trial has ended."""

from enum import StrEnum


class Status(StrEnum):
    """In `result.json`, by these words."""

    COMPLETED = "completed"
    STOPPED = "stopped"
    DIVERGED = "diverged"
    INTERRUPTED = "interrupted"
    FAILED = "failed"

    @property
    def is_final(self) -> bool:
        """Whether such a trial has its result, and is not trained again."""
        return self in (Status.COMPLETED, Status.DIVERGED)

    @property
    def is_fine(self) -> bool:
        """Whether such a trial was trained as far as it was to be."""
        return self in (Status.COMPLETED, Status.STOPPED)
