"""Fault injection: a command that ends, as by `kill -9`, before a file operation, or just after a
file is made.

The command runs in a fork of this process, so that it need not import torch again.
"""

import os
import runpy
import shutil
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.conftest import ROOT

KILLED = 137
_CHANGING = {
    "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate",
    "shutil.rmtree",
}  # fmt: skip


class Operations:
    """An audit hook that counts the file operations below a folder, and ends the process at one of
    them.

    Args:
        folder: whose files count.
        end_at: number of the operation, from 0; None for none.
        made: end once the file is there, but empty, where the operation makes one.
    """

    def __init__(self, folder: Path, end_at: int | None, made: bool) -> None:
        self.folder = f"{folder}{os.sep}"
        self.end_at = end_at
        self.made = made
        self.makes: list[bool] = []

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        makes = event == "open" and _writes(arguments)
        if not makes and event not in _CHANGING:
            return
        path = arguments[1] if event in ("os.link", "os.symlink") else arguments[0]
        if not isinstance(path, (str, os.PathLike)) or not os.path.abspath(path).startswith(
            self.folder
        ):
            return
        if len(self.makes) == self.end_at:
            if makes and self.made:
                self.end_at = -1
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o644))
            os._exit(KILLED)
        self.makes.append(makes)


def _writes(arguments: tuple[Any, ...]) -> bool:
    _, mode, flags = arguments
    if isinstance(mode, str):
        return bool(set(mode) & set("wxa+"))
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def run(
    script: str, arguments: Sequence[str], end_at: int | None = None, made: bool = False
) -> tuple[int, list[bool]]:
    """Run a script of the project in the current folder; return its exit code, and its file
    operations.

    Returns:
        `KILLED` if it was ended, and of every operation whether it makes a file.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        code = 70
        try:
            code = _run(script, arguments, operations := Operations(Path.cwd(), end_at, made))
            os.write(writing, bytes(operations.makes))
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        makes = list(map(bool, pipe.read()))
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), makes


def _run(script: str, arguments: Sequence[str], operations: Operations) -> int:
    sys.stdout = sys.stderr = Path("said.txt").open("w", buffering=1)  # noqa: SIM115
    sys.argv = [str(ROOT / script), *arguments]
    sys.addaudithook(operations)
    try:
        runpy.run_path(str(ROOT / script), run_name="__main__")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def points(makes: Sequence[bool]) -> Iterator[tuple[int, bool]]:
    """Yield where a command with these operations may be ended."""
    for number, made in enumerate(makes):
        yield number, False
        if made:
            yield number, True


def every_point(
    script: str,
    arguments: Sequence[str],
    check: Callable[[Path], None],
    otherwise: Sequence[str] = (),
    part: slice = slice(None),
    before: Path | None = None,
) -> int:
    """End a command at each point, each in a folder of its own, then run it again to its end, and
    check.

    Args:
        script: of the project.
        arguments: of both.
        check: gets the folder in which it ran; raises what is wrong.
        otherwise: arguments that continue where the same ones are refused.
        part: of the points.
        before: what is in each of these folders at first; None for nothing.

    Returns:
        How many points there were.
    """
    there = Path.cwd()

    def enter(name: str) -> None:
        if before is None:
            (there / name).mkdir()
        else:
            shutil.copytree(before, there / name, symlinks=True)
        os.chdir(there / name)

    enter("whole")
    code, makes = run(script, arguments)
    assert code == 0, Path("said.txt").read_text()
    ends = list(points(makes))[part]
    try:
        for number, made in ends:
            enter(f"{number}{'-made' if made else ''}")
            folder = Path.cwd()
            assert run(script, arguments, number, made)[0] == KILLED
            code, _ = run(script, arguments)
            if code == 2 and otherwise:
                code, _ = run(script, otherwise)
            assert code == 0, f"{folder.name}: {Path('said.txt').read_text()}"
            check(folder)
    finally:
        os.chdir(there)
    return len(ends)
