"""Keys that nothing reads: a mistake that would otherwise change nothing, without a word."""

import difflib
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from omegaconf import OmegaConf

from trialstack.core.errors import UserError, quoted

LIKE = 0.6
"""How much a key outside of groups must be like another to be taken for it, from 0 to 1."""

_REFERENCE = re.compile(r"\$\{\s*([A-Za-z_]\w*)\s*(?=[.}\[])")
"""The first part of a key in an interpolation; a resolver's name is followed by a colon."""


class NotRead(UserError):
    """Nothing reads a key.

    Args:
        message: says what to do.
        key: with its group.
    """

    def __init__(self, message: str, key: str) -> None:
        super().__init__(message)
        self.key = key


def check_read(
    keys: Mapping[str, Any], read: Collection[str], prefix: str = "", who: str = "nothing reads"
) -> None:
    """Check that all of a group's keys are read.

    Args:
        keys: the group.
        read: its keys that are read; of the config itself also dotted ones, to find the nearest
            among.
        prefix: of the group, such as `optimizer.`.
        who: the beginning of the message.

    Raises:
        NotRead: one is not.
    """
    for key, value in keys.items():
        if key not in read:
            path, inner = next(_leaves(key, value))
            names = [name for name in read if not name.endswith("_target_")]
            nearest = max(names, key=lambda name: _likeness(path, name), default=None)
            if nearest is not None and not prefix and _likeness(path, nearest) < LIKE:
                nearest = None
            instead = (
                ""
                if nearest is None
                else f", or use {prefix}{nearest}, the nearest key that is read"
            )
            raise NotRead(
                f"{who} {prefix}{path}, got {quoted(inner)}; leave it out{instead}",
                f"{prefix}{path}",
            )


def _leaves(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _leaves(f"{key}.{name}", inner)
    else:
        yield key, value


def _likeness(key: str, name: str) -> float:
    """How much a key is like a name, with or without the group that either is in."""
    pairs = ((key, name), (key.rpartition(".")[2], name.rpartition(".")[2]))
    return max(difflib.SequenceMatcher(None, *pair).ratio() for pair in pairs)


def refers(config: Any, key: str) -> bool:
    """Tell whether an interpolation somewhere in a config refers to a key of its root."""
    return key in set(_references(OmegaConf.to_container(config, resolve=False)))


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield from _REFERENCE.findall(value)
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)
