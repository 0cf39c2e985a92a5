"""Run folders: one run each, claimed before anything is written, locked while it trains, continued in place."""

import os
import shlex
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from trialstack import untrusted
from trialstack.atomic import naming_the_folder, replaced
from trialstack.cli import AT_END, end, unwritable
from trialstack.errors import Interrupted, UserError
from trialstack.rules import check, check_folder, check_options, resolved

LISTED = "`ls -td outputs/runs/* outputs/sweeps/*/*` lists them, the newest first"
"""Where run folders are found."""

EVALUATION = ("evaluation.json", "evaluation.png")
"""What `evaluate.py` writes into a run folder."""

_GROUPS = ("data", "model", "optimizer", "schedule", "trainer")
"""That every run's config has."""


class ClaimFolder(Callback):
    """Hydra callback that keeps two runs from writing to one folder: whoever creates its `.hydra/` owns it.

    It checks the config first, so that a mistake leaves no folder.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        if config.hydra.output_subdir is None:
            return
        HydraConfig.instance().set_config(config)
        folder = Path(config.hydra.run.dir)
        try:
            _check_job(config, folder)
            _claim(folder)
        except UserError as error:  # Hydra makes warnings of exceptions in callbacks
            end(str(error), 2)
        except FileExistsError:
            end(f"cannot write {folder}: a file of that name is in the way; move it, or use hydra.run.dir=FOLDER", 2)
        except OSError as error:
            end(unwritable(error), 2)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Keep launchers that know nothing of earlier trials from writing over them."""
        folder, launcher = Path(str(config.hydra.sweep.dir)), config.hydra.runtime.choices["hydra/launcher"]
        if launcher == "stacked":
            return
        if OmegaConf.select(config, "dry_run"):
            end(f"dry_run=true plans for hydra/launcher=stacked, got {launcher}; leave out hydra/launcher", 2)
        if (folder / "multirun.yaml").exists():
            end(
                f"{folder} already holds a sweep; without hydra/launcher={launcher} the sweep goes on, another "
                "sweep=NAME starts one",
                2,
            )


def _claim(folder: Path) -> None:
    """Hold `folder` until the command ends, if no run is there.

    Raises:
        UserError: it holds a run, or is used by another process.
        OSError: it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    AT_END.enter_context(locked(folder))
    if holds_run(folder):
        raise UserError(
            f"{folder} already holds a run; resume={folder} continues it, hydra.run.dir=FOLDER starts another"
        )
    refuse_links(folder)


def holds_run(folder: Path) -> bool:
    """Tell whether a run has begun in `folder`: one that was killed before its configs were whole has not."""
    overrides = folder / ".hydra" / "overrides.yaml"  # the last of them
    whole = overrides.exists() and overrides.stat().st_size > 0
    return whole or any((folder / name).exists() for name in ("checkpoints", "metrics.csv", "result.json"))


def refuse_links(folder: Path) -> None:
    """Check that what a run writes into its folder stays there.

    Raises:
        UserError: a symbolic link leads elsewhere.
    """
    paths = [folder / name for name in ("train.log", "hparams.yaml", ".hydra", "checkpoints")]
    inner = [path for part in paths[2:] if part.is_dir() and not part.is_symlink() for path in part.iterdir()]
    for path in (*paths, *inner):
        if path.is_symlink() and path.name != "stack.ckpt":  # of which stack_checkpoint knows
            raise UserError(
                f"{path} is a symbolic link, and the run would write to {os.readlink(path)}; put the file itself there"
            )


def _check_writable(folder: Path) -> None:
    for path in (folder, folder / ".hydra", folder / "checkpoints", folder / "train.log"):
        if path.exists() and not os.access(path, os.W_OK):
            raise UserError(f"cannot write {path}; make it writable, or copy {folder} and resume the copy")


def discard(folder: Path) -> None:
    """Make room for a trial that is trained anew: of what an earlier command left, its log stays, as `train.log.1`.

    Whatever is left after a kill, the trial either goes on from its checkpoints or is trained anew.
    """
    if not folder.is_dir():
        return
    log, kept = folder / "train.log", folder / "train.log.1"
    if log.is_file() and not log.is_symlink():
        log.replace(kept)
    (folder / "result.json").unlink(missing_ok=True)
    for entry in list(os.scandir(folder)):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        elif entry.name != kept.name:
            os.unlink(entry.path)


def _check_job(config: DictConfig, folder: Path) -> None:
    if "folder" in config:
        check_folder(config)
        job = config.copy()
        OmegaConf.update(job, "folder", str(folder))
        values = resolved(job)
        check(values)
        if values.get("dry_run"):
            raise UserError("dry_run=true must be on the command line, got it from a config file; remove it there")
        if values.get("sweep") is not None:
            raise UserError(f"sweep={values['sweep']} names a sweep, got a single run; add -m, or leave it out")
        from trialstack.rehearsal import rehearse  # torch, from here on

        rehearse([values])


def in_place(arguments: list[str]) -> list[str]:
    """Point Hydra at the folder of `resume=FOLDER`, if the command line has it, and keep the files there.

    Raises:
        UserError: FOLDER is no run folder, or the command line changes more than the trainer; an option has no name.
    """
    check_options(arguments)
    if "dry_run=true" in map(str.lower, arguments) and not {"-m", "--multirun"} & set(arguments):
        return [*arguments, "--multirun"]  # a run is a sweep of one
    resume = next((a for a in arguments if a.startswith("resume=") and a != "resume=null"), None)
    if resume is None or "hydra.output_subdir=null" in arguments:  # in a process that another one started
        return arguments
    override = OverridesParser.create().parse_override(resume)
    if override.is_sweep_override():
        raise UserError(f"resume=FOLDER continues one run, got {resume}; run the command once for each")
    folder = Path(str(override.value()))
    composed(folder)
    refuse_links(folder)
    _check_writable(folder)
    for argument in arguments:
        changes = "=" in argument or argument.startswith("~")
        if argument.startswith(("hydra.run.", "hydra.sweep.")):
            raise UserError(f"resume={folder} goes on in that folder, got {argument}; leave it out")
        if changes and not argument.lstrip("+").startswith(("resume=", "trainer.", "hydra.", "-")):
            raise UserError(
                f"resume={folder} goes on with that run's own config, of which only trainer.* can change, got "
                f"{argument}; leave it out, or start a new run"
            )
    return [*arguments, resume.replace("resume=", "hydra.run.dir=", 1), "hydra.output_subdir=null"]


def composed(folder: Path) -> DictConfig:
    """Return the config that the run in `folder` was composed from, its interpolations unresolved.

    Raises:
        UserError: `folder` is no run folder.
    """
    file = folder / ".hydra" / "config.yaml"
    if not folder.exists():
        raise UserError(f"run folder {folder} does not exist; {LISTED}")
    if not folder.is_dir():
        raise UserError(f"a run folder is needed, got the file {folder}; name the folder that holds checkpoints/")
    try:
        config = untrusted.config(file)
    except FileNotFoundError:
        raise UserError(
            f"{folder} is a sweep; name one of its trials, such as {folder}/0"
            if (folder / "sweep.json").exists()
            else f"{folder} is no run folder: {file} is missing; {LISTED}"
        ) from None
    except untrusted.Damaged as problem:
        raise UserError(f"{file} {problem}; restore it from a copy of the run") from problem
    if not isinstance(config, DictConfig) or not all(_is_group(config, group) for group in _GROUPS):
        raise UserError(f"{file} is not the config of a run of trialstack; name a folder that `python train.py` made")
    return config


def _is_group(config: DictConfig, key: str) -> bool:
    return isinstance(OmegaConf.select(config, key, throw_on_resolution_failure=False), DictConfig)


def remember(folder: Path, config: DictConfig, overrides: Sequence[str] | None = None) -> None:
    """Make `config` the one that the run in `folder` goes on with, and of a new run `overrides` what it came from."""
    config = config.copy()
    config.folder = "${hydra:runtime.output_dir}"
    config.resume = None
    with replaced(folder / ".hydra" / "config.yaml") as temporary:
        OmegaConf.save(config, temporary)
    if overrides is not None:
        with replaced(folder / ".hydra" / "overrides.yaml") as temporary:
            OmegaConf.save(list(overrides), temporary)


def requested_run(config: DictConfig, key: str = "run") -> Path:
    """Return the run folder in a command's `key`.

    Raises:
        UserError: it is not set, or is no run folder.
    """
    if OmegaConf.is_missing(config, key):
        raise UserError(f"{key}=FOLDER is needed, a folder that `python train.py` made; {LISTED}")
    folder = Path(str(config[key]))
    composed(folder)
    return folder


def requested_sweep(config: DictConfig) -> Path:
    """Return the folder of a command's `sweep` key, a name or a folder.

    Raises:
        UserError: it is not set, or there is no such sweep.
    """
    if OmegaConf.is_missing(config, "sweep"):
        raise UserError("sweep=NAME is needed, of `python train.py -m sweep=NAME`; `ls -t outputs/sweeps` lists them")
    name = str(config.sweep)
    folder = Path(name) if "/" in name else Path("outputs/sweeps", name)
    if not (folder / "sweep.json").exists():
        raise UserError(f"{folder} is no sweep: sweep.json is missing; `ls -t outputs/sweeps` lists the sweeps")
    return folder


def lock_folder(folder: Path) -> Path:
    """Return the folder that a process holds to train in `folder`: of a sweep's trial, the sweep's."""
    return next((parent for parent in folder.absolute().parents if (parent / "sweep.json").exists()), folder)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process, which may hold it already.

    Raises:
        UserError: another process is training there.
    """
    lock = FileLock(folder.absolute() / ".lock", is_singleton=True)
    with naming_the_folder(Path(lock.lock_file)):
        try:
            lock.acquire(blocking=False)
        except Timeout:
            raise UserError(
                f"another process is training in {os.path.relpath(folder)}; wait for it, or use another folder"
            ) from None
    try:
        yield
    finally:
        if lock.lock_counter == 1:
            Path(lock.lock_file).unlink(missing_ok=True)  # before the release: the next process locks a new file
        lock.release()


@contextmanager
def resumable(folder: Path) -> Iterator[None]:
    """Have Ctrl-C, whenever it comes, end with the command that continues the run in `folder`.

    Raises:
        Interrupted: it came.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(f"`{resume_command(folder)}` continues") from None


def resume_command(folder: Path) -> str:
    return f"python train.py resume={shlex.quote(os.path.relpath(folder))}"
