"""What the batches of a search have in common: what is said of them, and one progress bar."""

from typing import Any


class Shared:
    """Attributes:
    number: of the batch, from 1.
    of: how many batches there are.
    left: batches that are left, this one included.
    seconds: of training that a dry run estimates for a batch.
    bar: once the first batch has one.
    """

    def __init__(self) -> None:
        self.number = self.of = 1
        self.left = 1.0
        self.seconds = 0.0
        self.bar: Any = None

    def begin(self, number: int, of: int, left: float) -> None:
        """Begin a batch."""
        self.number, self.of, self.left = number, of, left

    @property
    def batch(self) -> str:
        return f"batch {self.number} of {self.of}:"

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
