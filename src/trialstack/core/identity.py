"""What a trial is known by: what its config says of what it learns."""

import json
from collections.abc import Mapping
from typing import Any

from trialstack.core.schema import is_learned


def content(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a resolved config says of what its trial learns, by dotted key."""
    return {key: value for key, value in flat(values).items() if is_learned(key)}


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested values by dotted key; groups without any have none."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def shown(item: Any) -> str:
    """Return a value as it is written on leaderboards and in pictures."""
    if isinstance(item, float):
        return f"{item:.6g}"
    return item if isinstance(item, str) else json.dumps(item)
