"""Paths that files name: believed only if they stay in the folder that they are of."""

import os
from pathlib import Path


def is_inside(name: object, folder: Path) -> bool:
    """Tell whether `name` is a path below `folder`, plainly written, and no symbolic link leads out
    of it.
    """
    if not isinstance(name, str) or not name or "\0" in name:
        return False
    path = Path(name)
    if path.is_absolute() or ".." in path.parts or str(path) != name or name == ".":
        return False
    return os.path.realpath(folder / path) == os.path.join(os.path.realpath(folder), name)
