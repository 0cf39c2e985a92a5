"""`stack.ckpt`: the checkpoint of several trials while they train as a stack, split into theirs at
its end.

A large stack would otherwise write hundreds of files an epoch. The file is in the first trial's
folder; the others have a link to it, so that each of them can be resumed alone. It stays until
every trial has its result: whatever a process that is killed leaves half done is done again from
it.
"""

import logging
import os
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trialstack.core import layout
from trialstack.core.errors import UserError, reason
from trialstack.core.inside import is_inside
from trialstack.run.checkpoints import copy, load, write
from trialstack.run.folder import lock_folder
from trialstack.run.result import Result

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class StackFile:
    """What a `stack.ckpt` says besides weights.

    Attributes:
        file: the first trial's.
        size: how many trials trained together.
        members: folders of the trials that have a link to the file, by position in the stack.
        last: whether there is nothing left to train.
        diverged: epochs (from 1) in which trials diverged, by position.
        checkpoints: by position, what a trial's own checkpoint would have besides its weights.
    """

    file: Path
    size: int
    members: dict[int, Path]
    last: bool
    diverged: dict[int, int]
    checkpoints: list[dict[str, Any]]

    @classmethod
    def of(cls, folder: Path) -> "StackFile | None":
        """Return the stack in which the trial in `folder` was stopped, None if there is none.

        A file that is damaged, or is not of a stack of this trial, is said to be that and is not
        there any more.
        """
        own = stack_file(folder)
        file = _target(own) if own.is_symlink() else own
        if not own.exists():
            return None
        try:
            if (
                file is None
                or file.is_symlink()
                or not file.is_file()
                or not _are_together(folder, file.parent.parent)
            ):
                raise ValueError("it is no file of its stack")
            stack = cls._read(file)
            if folder.resolve() not in [member.resolve() for member in stack.members.values()]:
                raise ValueError("the stack has other trials")
        except (
            UserError,
            KeyError,
            TypeError,
            ValueError,
            AttributeError,
            IndexError,
            RecursionError,
        ) as error:
            log.warning(
                "%s cannot be used (%s); the trial goes on without it",
                own,
                reason(error).partition(";")[0],
            )
            own.unlink()
            return None
        return stack

    @classmethod
    def _read(cls, file: Path) -> "StackFile":
        content = load(file, mmap=True)
        stack = content["callbacks"]["StackCheckpoint"]
        first = file.parent.parent
        folders = [Path(os.path.normpath(first / str(name))) for name in stack["folders"]]
        members = {
            position: folder
            for position, folder in enumerate(folders)
            if folder == first
            or (_target(stack_file(folder)) == file and _are_together(folder, first))
        }
        kept = {"epoch": int(content["epoch"]), "engine": "stacked"}
        checkpoints = [kept | {"callbacks": callbacks} for callbacks in stack["callbacks"]]
        return cls(
            file, len(folders), members, bool(stack["last"]), dict(stack["diverged"]), checkpoints
        )

    def split(
        self, best: Sequence[dict[str, Any] | None] | None = None, diverged: Collection[int] = ()
    ) -> None:
        """Write the `last.ckpt` and `best.ckpt` of its trials; one that has diverged has the latter
        only.

        Args:
            best: what is in `best.ckpt`, by position; None for what the file has.
            diverged: positions of more trials than the file has.
        """
        content = load(self.file, mmap=True)
        timers, states = content.pop("callbacks"), content.pop("trials")
        stack = timers.pop("StackCheckpoint")
        best = stack["best"] if best is None else best
        for position, folder in self.members.items():
            callbacks, state = stack["callbacks"][position], best[position]
            last_file, best_file = (folder / file for file in (layout.LAST, layout.BEST))
            goes_on = position not in self.diverged and position not in diverged
            last = stack["ended"].get(position) or content | states[position] | {
                "callbacks": callbacks | timers
            }
            if goes_on:
                write(last, last_file)
            if goes_on and callbacks["BestAndLast"]["best_epoch"] == last["epoch"] + 1:
                copy(last_file, best_file)
            elif state is not None:
                write(state, best_file)

    def remove(self) -> None:
        """Remove it, once its trials have checkpoints, or results, of their own."""
        remove_links(self.members.values())
        self.file.unlink()
        _remove_if_empty(self.file.parent)


def remove_if_done(folder: Path) -> None:
    """Remove the checkpoint of the stack of the trial in `folder` if each of its trials has a
    result.
    """
    stack = StackFile.of(folder)
    if stack is None:
        remove_links([folder])
        return
    results = map(Result.read, stack.members.values())
    if all(result is not None and result.status.is_final for result in results):
        stack.remove()


def remove_links(folders: Iterable[Path]) -> None:
    """Remove the links of a stack's trials to its checkpoint."""
    for folder in folders:
        if stack_file(folder).is_symlink():
            stack_file(folder).unlink()
        _remove_if_empty(folder / layout.CHECKPOINTS)


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):  # it has checkpoints
        folder.rmdir()


def stack_file(folder: Path) -> Path:
    return folder / layout.STACK


def _target(link: Path) -> Path | None:
    """Where a trial's link leads, if that may be the checkpoint of a stack."""
    try:
        target = Path(os.path.normpath(link.parent / os.readlink(link)))
    except OSError:
        return None
    return target if target == stack_file(target.parent.parent) else None


def _are_together(folder: Path, other: Path) -> bool:
    """Tell whether both are trials of one sweep, or neither is of any."""
    root = lock_folder(folder)
    if root == folder:
        return lock_folder(other) == other
    return all(is_inside(os.path.relpath(trial, root), root) for trial in (folder, other))
