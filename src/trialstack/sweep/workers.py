"""Who trains in a sweep's folder for a driver elsewhere: each such worker holds a lock there, for
it may outlive its driver.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from trialstack.core import layout
from trialstack.core.errors import UserError

PATIENCE = 60.0
"""Seconds in which a worker that was lost with its driver or its node is gone."""


@contextmanager
def working(sweep: Path, job: str) -> Iterator[None]:
    """Hold a job's lock in a sweep's folder; one that trained the same before is waited for.

    Raises:
        UserError: it is still there.
    """
    file = sweep / layout.WORKERS / f"{job}.lock"
    file.parent.mkdir(exist_ok=True)
    with _held(file):
        try:
            yield
        finally:
            file.unlink(missing_ok=True)


def wait_for_workers(sweep: Path) -> None:
    """Wait until no worker of an earlier command trains in a sweep's folder.

    Raises:
        UserError: one still does.
    """
    folder = sweep / layout.WORKERS
    for file in folder.glob("*.lock"):
        with _held(file):
            file.unlink(missing_ok=True)


@contextmanager
def _held(file: Path) -> Iterator[None]:
    try:
        with FileLock(file, timeout=PATIENCE):
            yield
    except Timeout:
        raise UserError(
            f"{file.stem}, a job of an earlier command, still trains in {file.parent.parent}; end "
            "it, or wait for it"
        ) from None
