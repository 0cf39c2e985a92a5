"""Messages of what is called from Python, where nobody has said where messages go."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def printed() -> Iterator[None]:
    """Print this package's messages as its commands do, unless logging is configured: then they go
    where that says. Afterwards it is as it was.
    """
    package, root = logging.getLogger("trialstack"), logging.getLogger()
    if package.hasHandlers():
        yield
        return
    level, handler = package.level, logging.StreamHandler(sys.stdout)
    if level == logging.NOTSET:
        package.setLevel(logging.INFO)
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        package.setLevel(level)
