"""Run folders: one run each, claimed before anything is written, locked while it trains, continued
in place.
"""

import os
import shlex
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf

from trialstack.core import layout, untrusted
from trialstack.core.atomic_files import is_part, naming_the_folder, replaced
from trialstack.core.called import called
from trialstack.core.errors import CannotWrite, Interrupted, UserError
from trialstack.run.result import Result

LISTED = "`ls -td outputs/runs/* outputs/sweeps/*/*` lists them, the newest first"
"""Where run folders are found."""

_CONFIGS = (layout.CONFIG, layout.OVERRIDES, layout.HYDRA / "hydra.yaml")

_GROUPS = ("data", "model", "optimizer", "schedule", "loss", "metrics", "trainer")
"""That every run's config has."""


def holds_run(folder: Path) -> bool:
    """Tell whether a run has begun in `folder`: one that was killed before its configs were whole
    has not.
    """
    overrides = folder / layout.OVERRIDES  # the last of them
    whole = overrides.exists() and overrides.stat().st_size > 0
    return whole or any(
        (folder / path).exists() for path in (layout.CHECKPOINTS, layout.METRICS, layout.RESULT)
    )


def refuse_others(folder: Path) -> None:
    """Check that nothing is in the folder of a new run but what a killed one left of its beginning.

    Raises:
        UserError: there are files of others.
    """
    begun = {layout.LOCK, layout.HYDRA, *_CONFIGS}
    there = [*folder.iterdir(), *(folder / layout.HYDRA).glob("*")] if folder.is_dir() else []
    for path in there:
        known = path.relative_to(folder)
        is_new_log = known == layout.LOG and path.stat().st_size == 0
        if known not in begun and not is_new_log and not is_part(path):
            raise UserError(
                f"{os.path.relpath(path)} is there, and of no run; a run needs a folder of its "
                "own: use another hydra.run.dir=FOLDER, or move the file"
            )


def withdraw(folder: Path) -> None:
    """Remove a run that was refused before its first epoch, and its folder, unless there is more in
    it.
    """
    result = Result.read(folder)
    own = {layout.LOCK, layout.LOG, layout.RESULT, *_CONFIGS}
    there = {path.relative_to(folder) for path in folder.rglob("*") if not path.is_dir()}
    if not there <= own or (result is not None and result.epochs):
        return
    for path in there:
        (folder / path).unlink(missing_ok=True)
    for part in (layout.HYDRA, layout.CHECKPOINTS, Path()):
        with suppress(OSError):
            (folder / part).rmdir()


def refuse_links(folder: Path) -> None:
    """Check that what a run writes into its folder stays there.

    Raises:
        UserError: a symbolic link leads elsewhere.
    """
    written = (layout.LOG, layout.HYPERPARAMETERS, layout.HYDRA, layout.CHECKPOINTS)
    paths = [folder / path for path in written]
    inner = [
        path
        for part in paths[2:]
        if part.is_dir() and not part.is_symlink()
        for path in part.iterdir()
    ]
    for path in (*paths, *inner):
        if path.is_symlink() and path.name != layout.STACK.name:  # of which stack_file knows
            raise UserError(
                f"{path} is a symbolic link, and the run would write to {os.readlink(path)}; put "
                "the file itself there"
            )


def discard(folder: Path) -> None:
    """Make room for a trial that is trained anew: of what an earlier command left, its log stays,
    as `train.log.1`.

    Whatever is left after a kill, the trial either goes on from its checkpoints or is trained anew.
    """
    if not folder.is_dir():
        return
    log, kept = folder / layout.LOG, folder / layout.LOG_BEFORE
    if log.is_file() and not log.is_symlink():
        log.replace(kept)
    (folder / layout.RESULT).unlink(missing_ok=True)
    for entry in list(os.scandir(folder)):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        elif entry.name != kept.name:
            os.unlink(entry.path)


def remove_run(folder: Path) -> None:
    """Make room for a run in the place of the one in `folder`, if there is one.

    Raises:
        UserError: there is more in it than that run, which so stays; it is a trial of a sweep; or
            another process is training there.
    """
    if not folder.is_dir():
        return
    if lock_folder(folder) != folder:
        raise UserError(
            f"{folder} is in a sweep, whose trials are known by their configs; use another folder"
        )
    with locked(folder):
        refuse_links(folder)
        for path in folder.iterdir():
            if not is_part(path) and not any(path.match(str(own)) for own in layout.OF_RUN):
                raise UserError(
                    f"{os.path.relpath(path)} is there, and of no run, so {folder} is not "
                    "overwritten; move it, or use another folder"
                )
        _separate(folder)
        for path in list(folder.iterdir()):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != layout.LOCK.name:
                path.unlink()


def _separate(folder: Path) -> None:
    """Give the others checkpoints of their own that trained in one stack with the run in `folder`
    and have not ended.
    """
    if not os.path.lexists(folder / layout.STACK):
        return
    from trialstack.run.stack_file import StackFile  # torch

    stack = StackFile.of(folder)
    if stack is not None:
        stack.split()
        stack.remove()


def read_config(folder: Path) -> DictConfig:
    """Return the config that the run in `folder` was composed from, its interpolations unresolved.

    Raises:
        UserError: `folder` is no run folder.
    """
    file = folder / layout.CONFIG
    if not folder.exists():
        raise UserError(f"run folder {folder} does not exist; {LISTED}")
    if not folder.is_dir():
        raise UserError(
            f"a run folder is needed, got the file {folder}; name the folder that holds "
            "checkpoints/"
        )
    try:
        config = untrusted.config(file)
    except FileNotFoundError:
        raise UserError(
            f"{folder} is a sweep; name one of its trials, such as {folder}/0"
            if (folder / layout.INDEX).exists()
            else f"{folder} is no run folder: {file} is missing; {LISTED}"
        ) from None
    except untrusted.Damaged as problem:
        raise UserError(f"{file} {problem}; restore it from a copy of the run") from problem
    if not isinstance(config, DictConfig) or not all(_is_group(config, group) for group in _GROUPS):
        raise UserError(
            f"{file} is not the config of a run of trialstack; name a folder that "
            f"`{called('train')}` made"
        )
    return config


def _is_group(config: DictConfig, key: str) -> bool:
    return isinstance(OmegaConf.select(config, key, throw_on_resolution_failure=False), DictConfig)


def write_config(folder: Path, config: DictConfig, overrides: Sequence[str] | None = None) -> None:
    """Make `config` the one that the run in `folder` goes on with, and of a new run `overrides`
    what it came from.
    """
    config = config.copy()
    config.folder = "${hydra:runtime.output_dir}"
    config.resume = None
    with replaced(folder / layout.CONFIG) as temporary:
        OmegaConf.save(config, temporary)
    if overrides is not None:
        with replaced(folder / layout.OVERRIDES) as temporary:
            OmegaConf.save(list(overrides), temporary)


def lock_folder(folder: Path) -> Path:
    """Return the folder that a process holds to train in `folder`: of a sweep's trial, the
    sweep's.
    """
    return next(
        (parent for parent in folder.absolute().parents if (parent / layout.INDEX).exists()), folder
    )


def sweep_of(folder: Path) -> str | None:
    """Return the name of the sweep that a trial's folder is of, None if it is of none."""
    held = lock_folder(folder)
    return None if held == folder else held.name


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process, which may hold it already.

    Raises:
        UserError: another process is training there.
    """
    lock = FileLock(folder.absolute() / layout.LOCK, is_singleton=True)
    with naming_the_folder(Path(lock.lock_file)):
        try:
            lock.acquire(blocking=False)
        except Timeout:
            raise UserError(
                f"another process is training in {os.path.relpath(folder)}; wait for it, or use "
                "another folder"
            ) from None
    try:
        yield
    finally:
        # before the release: the next process locks a new file
        if lock.lock_counter == 1:
            Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


@contextmanager
def resumable(folder: Path, is_new: bool) -> Iterator[None]:
    """Have Ctrl-C, whenever it comes, end with the command that continues the run in `folder`.

    A new run that is refused, for its data or its model's shapes, leaves nothing.

    Raises:
        Interrupted: it came.
    """
    try:
        yield
    except CannotWrite:
        raise
    except UserError:
        if is_new:
            withdraw(folder)
        raise
    except KeyboardInterrupt:
        raise Interrupted(f"`{resume_command(folder)}` continues") from None


def resume_command(folder: Path) -> str:
    return f"{called('train')} resume={shlex.quote(os.path.relpath(folder))}"
