"""What is known of a key of a config: it stands with the field that has the key's value, once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, Self

from trialstack.core.errors import UserError
from trialstack.core.rule import Rule


@dataclass(frozen=True)
class Key:
    """What is known of a key.

    Attributes:
        rule: what its value must be, and a value that is right; None if that is for others to say.
        varies: trials of a stack may differ in it.
        learned: it says what a trial learns, not where or how it is run: so it is part of what a
            trial is known by.
        in_stack: an argument of the Trainer that means the same to a stack.
        name: in configs, where that is not the field's.
        option: of a config group, an option that is right; None of other keys.
        inner: keys in it that are known, of a group whose keys are the user's.
    """

    rule: Rule | None = None
    varies: bool = False
    learned: bool = True
    in_stack: bool = False
    name: str | None = None
    option: str | None = None
    inner: Mapping[str, Key] = field(default_factory=dict)


def key(rule: Rule | None = None, *, default: Any = MISSING, **known: Any) -> Any:
    """Return a field of a `Group` for a key; without a default the key is needed.

    Args:
        rule: of the key.
        default: the value in a config without the key.
        **known: other attributes of the `Key`.
    """
    return field(default=default, metadata={"key": Key(rule, **known)})


@dataclass(frozen=True, kw_only=True)
class Group:
    """The keys of a config group, a field each.

    Attributes:
        values: all of the group as plain values, with keys that only the user's own classes read:
            as it is written down, and handed to the class that it is for.
    """

    values: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def known(cls) -> dict[str, Key]:
        """Return what is known of each key, by its name in configs."""
        return {name: known for name, known, _ in cls._fields()}

    @classmethod
    def parse(cls, values: Mapping[str, Any], prefix: str = "", **parsed: Any) -> Self:
        """Return a group of its plain values.

        Args:
            values: of the group.
            prefix: of its keys, such as `optimizer.`.
            **parsed: fields that are parsed already.

        Raises:
            UserError: a value breaks its rule, or is needed and missing.
        """
        for name, known, item in cls._fields():
            if item.name in parsed:
                continue
            rule, dotted = known.rule, f"{prefix}{name}"
            if name in values:
                if rule is not None:
                    rule.check(dotted, values[name])
                parsed[item.name] = values[name]
            elif rule is not None and item.default is MISSING:
                raise UserError(
                    f"{dotted} must be {rule.must}, got none; try {dotted}={rule.remedy}"
                )
        return cls(values=values, **parsed)

    @classmethod
    def _fields(cls) -> list[tuple[str, Key, Field[Any]]]:
        return [
            (item.metadata["key"].name or item.name, item.metadata["key"], item)
            for item in fields(cls)
            if "key" in item.metadata
        ]
