"""Folders that a command line names: `resume=`, `run=`, `sweep=`."""

import os
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from trialstack.core import layout
from trialstack.core.called import called
from trialstack.core.errors import UserError
from trialstack.core.parse import check_options
from trialstack.run.folder import LISTED, read_config, refuse_links


def resume_in_place(arguments: list[str]) -> list[str]:
    """Point Hydra at the folder of `resume=FOLDER`, if the command line has it, and keep the files
    there.

    Raises:
        UserError: FOLDER is no run folder, or the command line changes more than the trainer; an
            option has no name.
    """
    check_options(arguments)
    if "dry_run=true" in map(str.lower, arguments) and not {"-m", "--multirun"} & set(arguments):
        return [*arguments, "--multirun"]  # a run is a sweep of one
    resume = next((a for a in arguments if a.startswith("resume=") and a != "resume=null"), None)
    if (
        resume is None or "hydra.output_subdir=null" in arguments
    ):  # in a process that another one started
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
        changes = "=" in argument or argument.startswith("~")
        if argument.startswith(("hydra.run.", "hydra.sweep.")):
            raise UserError(f"resume={folder} goes on in that folder, got {argument}; leave it out")
        if changes and not argument.lstrip("+").startswith(("resume=", "trainer.", "hydra.", "-")):
            raise UserError(
                f"resume={folder} goes on with that run's own config, of which only trainer.* can "
                f"change, got {argument}; leave it out, or start a new run"
            )
    return [*arguments, resume.replace("resume=", "hydra.run.dir=", 1), "hydra.output_subdir=null"]


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
