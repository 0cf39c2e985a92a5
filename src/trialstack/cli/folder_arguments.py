"""Folders that a command line names: `resume=`, `run=`, `sweep=`."""

import os
import re
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from trialstack.core import layout
from trialstack.core.called import called
from trialstack.core.errors import UserError
from trialstack.core.parse import check_options
from trialstack.run.folder import LISTED, lock_folder, read_config, refuse_links

NOW = "${now:%Y-%m-%d_%H-%M-%S-%f}"
"""In names of folders; `conf/train.yaml` has it, too."""

_TIME = re.compile(r"-\d{4}-\d\d-\d\d_[\d-]+$")


def resume_in_place(arguments: list[str]) -> list[str]:
    """Point Hydra at the folder of `resume=FOLDER`, if the command line has it, and keep the files
    there; with `from=FOLDER continue=true` at a new one, which gets that run's files.

    Raises:
        UserError: FOLDER is no run folder, or the command line changes more than the trainer; an
            option has no name.
    """
    check_options(arguments)
    if "dry_run=true" in map(str.lower, arguments) and not {"-m", "--multirun"} & set(arguments):
        return [*arguments, "--multirun"]  # a run is a sweep of one
    if "hydra.output_subdir=null" in arguments:  # in a process that another one started
        return arguments
    if "continue=true" in map(str.lower, arguments) and not {"-m", "--multirun"} & set(arguments):
        return _continued_elsewhere(arguments)
    resume = next((a for a in arguments if a.startswith("resume=") and a != "resume=null"), None)
    if resume is None:
        return arguments
    override = OverridesParser.create().parse_override(resume)
    if override.is_sweep_override():
        raise UserError(
            f"resume=FOLDER continues one run, got {resume}; run the command once for each"
        )
    folder = Path(str(override.value()))
    read_config(folder)
    refuse_links(folder)
    _check_writable(folder)
    for argument in arguments:
        if argument.startswith(("hydra.run.", "hydra.sweep.")):
            raise UserError(f"resume={folder} goes on in that folder, got {argument}; leave it out")
    _check_only_trainer(arguments, f"resume={folder}", ("resume=",))
    return [*arguments, resume.replace("resume=", "hydra.run.dir=", 1), "hydra.output_subdir=null"]


def _continued_elsewhere(arguments: list[str]) -> list[str]:
    """The same with the folder of a run that goes on where that of `from=FOLDER` ended."""
    source = next((a for a in arguments if a.startswith("from=") and a != "from=null"), None)
    if source is None:  # which is an error of the config
        return arguments
    override = OverridesParser.create().parse_override(source)
    if override.is_sweep_override():
        raise UserError(f"continue=true trains one run longer, got {source}; name one")
    folder = Path(str(override.value()))
    read_config(folder)
    _check_only_trainer(arguments, f"from={folder} continue=true", ("from=", "continue="))
    is_placed = any(argument.startswith("hydra.run.dir=") for argument in arguments)
    own = [] if is_placed else [f"hydra.run.dir=outputs/runs/{_name(folder)}-{NOW}"]
    return [*arguments, *own, "hydra.output_subdir=null"]


def _name(folder: Path) -> str:
    """What a run is called in its sweep or without one, without the time at which it began."""
    sweep = lock_folder(folder)
    of_sweep = "" if sweep == folder else f"{sweep.name}-"
    return re.sub(r"[^\w.-]", "_", of_sweep + _TIME.sub("", folder.resolve().name))


def _check_only_trainer(arguments: list[str], what: str, own: tuple[str, ...]) -> None:
    for argument in arguments:
        changes = "=" in argument or argument.startswith("~")
        if changes and not argument.lstrip("+").startswith((*own, "trainer.", "hydra.", "-")):
            raise UserError(
                f"{what} goes on with that run's own config, of which only trainer.* can change, "
                f"got {argument}; leave it out, or start a new run"
            )


def _check_writable(folder: Path) -> None:
    for path in (folder, folder / layout.HYDRA, folder / layout.CHECKPOINTS, folder / layout.LOG):
        if path.exists() and not os.access(path, os.W_OK):
            raise UserError(
                f"cannot write {path}; make it writable, or copy {folder} and resume the copy"
            )


def requested_run(config: DictConfig, key: str = "run") -> Path:
    """Return the run folder in a command's `key`.

    Raises:
        UserError: it is not set, or is no run folder.
    """
    if OmegaConf.is_missing(config, key):
        raise UserError(f"{key}=FOLDER is needed, a folder that `{called('train')}` made; {LISTED}")
    folder = Path(str(config[key]))
    read_config(folder)
    return folder


def requested_sweep(config: DictConfig) -> Path:
    """Return the folder of a command's `sweep` key, a name or a folder.

    Raises:
        UserError: it is not set, or there is no such sweep.
    """
    if OmegaConf.is_missing(config, "sweep"):
        raise UserError(
            f"sweep=NAME is needed, of `{called('train')} -m sweep=NAME`; `ls -t outputs/sweeps` "
            "lists them"
        )
    name = str(config.sweep)
    folder = Path(name) if "/" in name else Path("outputs/sweeps", name)
    if not (folder / layout.INDEX).exists():
        raise UserError(
            f"{folder} is no sweep: sweep.json is missing; `ls -t outputs/sweeps` lists the sweeps"
        )
    return folder
