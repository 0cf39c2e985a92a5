"""What a rule says of a config's key, and the rules that many keys have."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from trialstack.core.errors import UserError, quoted

_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")


class Range(NamedTuple):
    """What a type of number can hold, apart from 0."""

    low: float
    high: float
    text: str


FLOAT32 = Range(2.0**-126, (2 - 2.0**-23) * 2.0**127, "float32 holds sizes from 1.2e-38 to 3.4e38")
INT64 = Range(1, 2**63 - 1, "64 bits hold up to 9.2e18")


@dataclass(frozen=True)
class Rule:
    """`KEY must be MUST`; `remedy` is an override that is right.

    Attributes:
        range: of numbers.
    """

    must: str
    holds: Callable[[Any], bool]
    remedy: str
    range: Range | None = None

    def check(self, key: str, value: Any) -> None:
        """Check a key's value.

        Raises:
            UserError: it breaks the rule.
        """
        beyond = ""
        if self.range is not None and type(value) in (int, float) and value != 0:
            beyond = (
                "" if self.range.low <= abs(value) <= self.range.high else f" ({self.range.text})"
            )
        if not beyond and self.holds(value):
            return
        raise UserError(
            f"{key} must be {self.must}{beyond}, got {quoted(value)}; try {key}={self.remedy}"
        )


def or_null(rule: Rule) -> Rule:
    return replace(rule, must=f"{rule.must}, or null", holds=lambda x: x is None or rule.holds(x))


def whole(low: int, remedy: str, high: int | None = None) -> Rule:
    must = (
        f"a whole number of at least {low}"
        if high is None
        else f"a whole number from {low} to {high}"
    )
    return Rule(
        must,
        lambda x: type(x) is int and low <= x and (high is None or x <= high),
        remedy,
        range=INT64,
    )


def number(must: str, holds: Callable[[float], bool], remedy: str) -> Rule:
    return Rule(
        f"a number {must}", lambda x: type(x) in (int, float) and holds(x), remedy, range=FLOAT32
    )


def one_of(*options: str) -> Rule:
    return Rule(f"one of {', '.join(options)}", lambda x: x in options, options[0])


def flag(remedy: str) -> Rule:
    return Rule("true or false", lambda x: type(x) is bool, remedy)


def not_negative(remedy: str) -> Rule:
    return number("of at least 0", lambda x: x >= 0, remedy)


def positive(remedy: str) -> Rule:
    return number("above 0", lambda x: x > 0, remedy)


def probability(remedy: str) -> Rule:
    return number("from 0 up to, but not including, 1", lambda x: 0 <= x < 1, remedy)


def fraction_or_count(remedy: str) -> Rule:
    return Rule(
        "a whole number of minibatches from 0, or a part of them from 0.0 to 1.0",
        lambda x: (type(x) is int and x >= 0) or (type(x) is float and 0 <= x <= 1),
        remedy,
        range=INT64._replace(low=0),
    )


def class_name(remedy: str) -> Rule:
    return Rule(
        "the dotted name of a class",
        lambda x: isinstance(x, str) and _DOTTED.fullmatch(x) is not None,
        remedy,
    )
