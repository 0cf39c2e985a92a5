"""Where the configs lie that trialstack brings."""

import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]

IN_CLONE = not (_PACKAGE / "conf").is_dir()
"""Whether this runs in a clone, not from a wheel, which has the configs in its package."""

CONF = (_PACKAGE.parents[1] if IN_CLONE else _PACKAGE) / "conf"


def options(group: str) -> str:
    """Return the folder with a group's options, as seen from the working folder."""
    return os.path.relpath(CONF / group)
