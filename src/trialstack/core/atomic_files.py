"""Files that appear whole or stay as they were, whatever happens meanwhile."""

import os
import re
import secrets
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PART = re.compile(r"\.(.+)\.[0-9a-f]{8}\.part")


@contextmanager
def naming_the_folder(temporary: Path) -> Iterator[None]:
    """Have errors name the folder that is full or cannot be written, not `temporary` in it, or
    nothing.
    """
    try:
        yield
    except OSError as error:
        if error.filename is not None and not Path(str(error.filename)).is_relative_to(temporary):
            raise
        raise OSError(error.errno, error.strerror, str(temporary.parent)) from error


@contextmanager
def replaced(path: Path, on_disk: bool = True) -> Iterator[Path]:
    """Yield a new, empty file in `path`'s folder, and move it to `path` once it is written.

    No other process has a file of that name, and a link that stands at `path` is replaced, not
    followed.

    Args:
        path: of the file.
        on_disk: wait until the disk has it; else a failure of the power may leave an empty one, but
            no end of this process.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _part(path)
    with naming_the_folder(temporary):
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        try:
            yield temporary
            if on_disk:
                with temporary.open("rb") as file:
                    os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


@contextmanager
def replaced_folder(path: Path) -> Iterator[Path]:
    """Yield a new, empty folder beside `path`, and move it there in the place of what was there
    before.

    Of several processes that do so at once, one has its way.
    """
    temporary, before = _part(path), _part(path)
    with naming_the_folder(temporary):
        temporary.mkdir(parents=True)
        try:
            yield temporary
            with suppress(FileNotFoundError):
                path.rename(before)
            with suppress(OSError):  # another process was faster
                temporary.rename(path)
        finally:
            for folder in (temporary, before):
                if folder.is_symlink():
                    folder.unlink()
                elif folder.exists():
                    shutil.rmtree(folder)


def _part(path: Path) -> Path:
    """A name beside `path` that nobody else has, by which `remove_parts` knows it."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")


def is_part(path: Path) -> bool:
    """Tell whether a file is what a process was writing, or a killed one left half written."""
    return _PART.fullmatch(path.name) is not None


def remove_parts(folder: Path, names: Collection[str] | None = None) -> None:
    """Remove what a killed process left half written in `folder`, which nobody else may be writing
    to.

    Args:
        folder: need not be there.
        names: of what it may have been writing; None for anything.
    """
    if not folder.is_dir():
        return
    for entry in list(os.scandir(folder)):
        part = _PART.fullmatch(entry.name)
        if part is None or (names is not None and part[1] not in names):
            continue
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            os.unlink(entry.path)
