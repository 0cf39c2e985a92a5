"""Files that appear whole or stay as they were, whatever happens meanwhile."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replaced(path: Path, this_process: bool = True) -> Iterator[Path]:
    """Yield a temporary path in `path`'s folder, and move it to `path` once it is on disk.

    Args:
        path: the file that appears whole, or stays as it was.
        this_process: whether this process moves it; the others of a distributed run only take part in writing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    try:
        yield temporary
        if this_process:
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
    except BaseException:
        if this_process:
            temporary.unlink(missing_ok=True)
        raise
