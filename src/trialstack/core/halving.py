"""When a sweep stops the trials that are behind."""

from dataclasses import dataclass
from itertools import pairwise, takewhile
from typing import Any

from trialstack.core.errors import UserError
from trialstack.core.key import Group, key
from trialstack.core.rule import Rule, one_of, or_null, whole


def _is_epochs(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(type(epoch) is int and epoch >= 1 for epoch in value)
        and all(before < after for before, after in pairwise(value))
    )


RUNGS = Rule("a list of epochs from 1, each later than the one before", _is_epochs, "[1,4]")


@dataclass(frozen=True, kw_only=True)
class HalvingConfig(Group):
    """Successive halving.

    Attributes:
        name: `successive`, or `none`.
        factor: one of so many rows trains on at a rung.
        min_epochs: the first rung; every further one is `factor` times as many epochs.
        rungs: all of them, in the place of that.
    """

    name: str = key(one_of("none", "successive"))
    factor: int = key(whole(2, "4"), default=4)
    min_epochs: int = key(whole(1, "1"), default=1)
    rungs: list[int] | None = key(or_null(RUNGS), default=None)

    def rungs_before(self, epochs: int) -> list[int]:
        """Return the rungs of trials of so many epochs.

        Raises:
            UserError: one is not before their end, or none is.
        """
        if self.name == "none":
            return []
        if self.rungs is None:
            powers = (self.min_epochs * self.factor**power for power in range(64))
            rungs = list(takewhile(lambda rung: rung < epochs, powers))
            if not rungs:
                raise UserError(
                    f"halving.min_epochs must be below trainer.max_epochs={epochs}, got "
                    f"{self.min_epochs}; train longer, or use halving=none"
                )
            return rungs
        if self.rungs[-1] >= epochs:
            raise UserError(
                f"halving.rungs must be below trainer.max_epochs={epochs}, got {self.rungs}; leave "
                f"out {self.rungs[-1]}"
            )
        return self.rungs
