"""Folders claimed for a run before anything is written there."""

from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from trialstack.cli.command import AT_END, end, unwritable
from trialstack.core import layout
from trialstack.core.errors import UserError
from trialstack.core.parse import check_folder, parse, resolved
from trialstack.run.folder import holds_run, locked, refuse_links, refuse_others
from trialstack.run.trial import checked_config, continued

TRAIN_STACKS = ("stacked", "ray", "submitit_local", "submitit_slurm")
"""Launchers that know of earlier trials."""


class ClaimFolder(Callback):
    """Hydra callback that keeps two runs from writing to one folder: whoever creates its `.hydra/`
    owns it.

    It checks the config first, so that a mistake leaves no folder.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        if config.hydra.output_subdir is None and not _begins_to_continue(config):
            return
        HydraConfig.instance().set_config(config)
        folder = Path(config.hydra.run.dir)
        try:
            _check_job(config, folder)
            _claim(folder)
        except UserError as error:  # Hydra makes warnings of exceptions in callbacks
            end(str(error), 2)
        except FileExistsError:
            end(
                f"cannot write {folder}: a file of that name is in the way; move it, or use "
                "hydra.run.dir=FOLDER",
                2,
            )
        except OSError as error:
            end(unwritable(error), 2)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Keep launchers that know nothing of earlier trials from writing over them."""
        folder, launcher = (
            Path(str(config.hydra.sweep.dir)),
            config.hydra.runtime.choices["hydra/launcher"],
        )
        if launcher in TRAIN_STACKS:
            return
        if OmegaConf.select(config, "dry_run"):
            end(
                f"dry_run=true plans for hydra/launcher=stacked, got {launcher}; leave out "
                "hydra/launcher",
                2,
            )
        if OmegaConf.select(config, "halving.name") not in (None, "none"):
            end(
                f"halving is for hydra/launcher=stacked, got {launcher}; leave out hydra/launcher, "
                "or use halving=none",
                2,
            )
        if (folder / layout.MULTIRUN).exists():
            end(
                f"{folder} already holds a sweep; without hydra/launcher={launcher} the sweep "
                "goes on, another sweep=NAME starts one",
                2,
            )


def _begins_to_continue(config: DictConfig) -> bool:
    """Tell whether this process makes the folder of a run that goes on where another one ended."""
    if OmegaConf.select(config, "continue") is not True:
        return False
    if OmegaConf.select(config, "resume") is not None:
        return False
    from trialstack.run.quiet import is_main_process  # torch, from here on

    return is_main_process()


def _claim(folder: Path) -> None:
    """Hold `folder` until the command ends, if it is free.

    Raises:
        UserError: it holds a run or something else, or is used by another process.
        OSError: it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    AT_END.enter_context(locked(folder))
    if holds_run(folder):
        raise UserError(
            f"{folder} already holds a run; resume={folder} continues it, hydra.run.dir=FOLDER "
            "starts another"
        )
    refuse_links(folder)
    refuse_others(folder)


def _check_job(config: DictConfig, folder: Path) -> None:
    if "folder" in config:
        check_folder(config)
        job = config.copy()
        if config["continue"] is True and config["from"] is not None:
            config, _ = continued(config, list(map(str, config.hydra.overrides.task)))
            checked_config(config, folder, is_new=True)
            return
        OmegaConf.update(job, "folder", str(folder))
        parsed = parse(resolved(job))
        if parsed.dry_run:
            raise UserError(
                "dry_run=true must be on the command line, got it from a config file; remove it "
                "there"
            )
        for key, value, unset in (
            ("sweep", parsed.sweep, None),
            ("retry", parsed.retry, None),
            ("on_error", parsed.on_error, "continue"),
            ("halving", parsed.halving.name, "none"),
        ):
            if value != unset:
                raise UserError(
                    f"{key}={value} is for sweeps, got a single run; add -m, or leave it out"
                )
        from trialstack.run.rehearsal import rehearse  # torch, from here on
        from trialstack.run.source import check_source

        rehearse([parsed])
        check_source(parsed)
