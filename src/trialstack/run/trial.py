"""A trial: one composed config with one seed, and the folder that it writes to."""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from trialstack.core import layout, untrusted
from trialstack.core.clock import STARTED
from trialstack.core.configs import CONF
from trialstack.core.errors import UserError
from trialstack.core.hydra_internals import own_hydra
from trialstack.core.identity import content, shown
from trialstack.core.parse import check_folder, parse, resolved
from trialstack.core.schedules import SCHEDULES
from trialstack.core.schema import TrialConfig
from trialstack.run.folder import (
    holds_run,
    lock_folder,
    read_config,
    refuse_links,
    refuse_others,
    remove_run,
    write_config,
)


@dataclass(frozen=True)
class Trial:
    """What is trained.

    Attributes:
        config: the composed config, checked.
        folder: the run folder.
        overrides: what the command line changed, for the record.
        changes: what the config has other than the defaults, as overrides; None where only
            `overrides` are known.
        resume: go on from `checkpoints/last.ckpt`, if it is there.
        until: the epoch (from 1) after which the training is stopped for now; None for its end.
        began: reading of `time.perf_counter` from which the trial's start-up counts.
        logged: has what concerns this trial alone go to its log, while several train.
        job: what a scheduler calls what trains it; None without one.
        pictured: what came out is drawn, in the folder and for the loggers.
    """

    config: TrialConfig
    folder: Path
    overrides: tuple[str, ...] = ()
    resume: bool = False
    until: int | None = None
    began: float = field(default_factory=time.perf_counter)
    logged: Callable[[], AbstractContextManager[None]] = nullcontext
    changes: tuple[str, ...] | None = None
    pictured: bool = True
    job: str | None = None


def compose_trial(
    overrides: Sequence[str], folder: Path | str, conf: Path = CONF, overwrite: bool = False
) -> Trial:
    """Return the trial that `python train.py OVERRIDES` would train, to be written to a new
    `folder`; options in the working folder's `conf/` come first.

    Args:
        overrides: as on the command line.
        folder: the run folder.
        conf: the folder of `train.yaml` and the config groups.
        overwrite: a run that `folder` holds is deleted, once the config is found right.

    Raises:
        UserError: a value breaks its rule, or `folder` holds a run already, or with `overwrite`
            more than a run.
    """
    folder = Path(folder)
    if not (conf / "train.yaml").is_file():
        raise UserError(
            f"{conf / 'train.yaml'} does not exist: compose_trial(..., conf=FOLDER) takes all "
            "configs from there; leave it out, and conf/ in the working folder adds to those of "
            "trialstack"
        )
    with own_hydra(conf):
        config = compose("train", [*overrides])
    if config["continue"] is True:
        config, overrides = continued(config, overrides)
    source = config["from"]
    if overwrite and source is not None and Path(str(source)).resolve() == folder.resolve():
        raise UserError(f"from={source} is the run to be overwritten; use another folder")
    checked = checked_config(config, folder, is_new=True)
    if overwrite:
        remove_run(folder)
    if holds_run(folder):
        raise UserError(
            f"{folder} already holds a run; resume_trial continues it, another folder or "
            "overwrite=True starts anew"
        )
    refuse_others(folder)
    write_config(folder, config, overrides)
    return Trial(checked, folder, tuple(overrides), resume=checked.continues)


def resume_trial(folder: Path) -> Trial:
    """Return the trial in `folder`, to go on from its last checkpoint.

    Raises:
        UserError: `folder` is no run folder.
    """
    config = read_config(folder)
    refuse_links(folder)
    checked = checked_config(config, folder, is_new=False)
    return Trial(checked, folder, _overrides(folder), resume=True)


def composed_trial(config: DictConfig) -> Trial:
    """Return the trial of a config that Hydra just composed; with `resume`, that of the folder to
    go on in; with `continue`, one that goes on where that in `from` ended.

    Raises:
        UserError: a value breaks its rule, or the trial to resume cannot be continued like this.
    """
    hydra = HydraConfig.get()
    began = STARTED if hydra.mode == RunMode.RUN else time.perf_counter()
    folder = Path(hydra.runtime.output_dir)
    overrides = tuple(map(str, OmegaConf.to_container(hydra.overrides.task) or ()))
    if config.resume is not None:
        config, overrides = _resumed(config, overrides)
    elif config["continue"] is True and hydra.mode == RunMode.RUN:
        config, overrides = continued(config, overrides)
    is_new = config.resume is None
    checked = checked_config(config, folder, is_new)
    if hydra.mode == RunMode.MULTIRUN:
        check_in_sweep(checked)
    changes = _changes(checked) if hydra.mode == RunMode.RUN else None
    if is_new and checked.continues:
        from trialstack.run.quiet import is_main_process

        if is_main_process():
            write_config(folder, config, overrides)
    goes_on = checked.continues or not is_new
    return Trial(checked, folder, overrides, goes_on, began=began, changes=changes)


def _changes(config: TrialConfig) -> tuple[str, ...] | None:
    """What a config has other than that of the command without overrides, if that has one."""
    try:
        defaults = content(resolved(compose(HydraConfig.get().job.config_name)))
    except (HydraException, UserError):
        return None
    return tuple(
        f"{key}={shown(value)}"
        for key, value in content(config.values).items()
        if key not in defaults or defaults[key] != value
    )


def check_in_sweep(config: TrialConfig) -> None:
    """Check what only matters in a sweep.

    Raises:
        UserError: a value breaks its rule.
    """
    if config.resume is not None:
        raise UserError(
            f"resume={config.resume} continues one run, got -m; leave out -m, or use sweep=NAME"
        )
    if config.continues:
        raise UserError(
            "continue=true trains one run longer, got -m; leave out -m, or leave out continue=true "
            f"to begin with the weights of {config.source}"
        )
    devices = config.trainer.devices
    if devices != 1 and not (isinstance(devices, list) and len(devices) == 1):
        raise UserError(
            f"trainer.devices=1 must hold in a sweep, got {devices}: several processes cannot be "
            "started within -m; run such trials one by one"
        )


def checked_config(config: DictConfig, folder: Path, is_new: bool) -> TrialConfig:
    """Return a config whose trial writes to `folder`, once all that can be checked before the data
    is right.

    Args:
        config: composed, or of a run.
        folder: of the run.
        is_new: it is not the run that the config is of.

    Raises:
        UserError: it is not.
    """
    check_folder(config)
    config = config.copy()
    config.folder = str(folder)
    values = resolved(config)
    if (
        not is_new or config["continue"]
    ):  # what is not read was for the command that began the run, in `hydra.run.dir` for example
        values = {key: value for key, value in values.items() if key in TrialConfig.known()}
    checked = parse(values)
    from trialstack.run.rehearsal import rehearse  # torch, from here on

    rehearse([checked])
    if is_new:
        from trialstack.run.source import check_source

        check_source(checked)
    return checked


def _overrides(folder: Path) -> tuple[str, ...]:
    """What the command line of the run in `folder` changed."""
    file = folder / layout.OVERRIDES
    try:
        overrides = OmegaConf.to_container(untrusted.config(file))
    except FileNotFoundError:
        return ()
    except untrusted.Damaged as problem:
        raise UserError(f"{file} {problem}; restore it from a copy of the run") from problem
    if not untrusted.conforms(overrides, list[str]):
        raise UserError(f"{file} is no list of overrides; restore it from a copy of the run")
    return tuple(map(str, overrides or ()))


def _resumed(config: DictConfig, overrides: tuple[str, ...]) -> tuple[DictConfig, tuple[str, ...]]:
    """The config and overrides of the run in `config.resume`, with what the command line says of
    the trainer.
    """
    folder = Path(str(config.resume))
    saved = read_config(folder)
    before = _overrides(folder)
    before_trainer = saved.trainer.copy()
    _change_trainer(saved, config, overrides)
    if saved.trainer != before_trainer and lock_folder(folder) != folder:
        raise UserError(
            f"resume={config.resume} goes on with a trial of a sweep, which is known by its "
            "config, got another trainer.*; leave it out, and sweep with that instead"
        )
    _check_laid_out(saved, before_trainer.max_epochs)
    saved.resume = config.resume
    return saved, (
        *before,
        *(override for override in overrides if not override.startswith("resume=")),
    )


def continued(config: DictConfig, overrides: Sequence[str]) -> tuple[DictConfig, tuple[str, ...]]:
    """Return the config of the run in `from`, with what the command line says of the trainer, for a
    run of its own; and both runs' overrides.

    Raises:
        UserError: there is no such run, or its schedule has another length.
    """
    folder = Path(str(config["from"]))
    saved = read_config(folder)
    epochs = saved.trainer.max_epochs
    _change_trainer(saved, config, overrides)
    _check_laid_out(saved, epochs)
    saved.update({"from": config["from"], "continue": True, "halving": {"name": "none"}})
    saved.update({"sweep": None, "retry": None, "on_error": "continue"})
    return saved, (*_overrides(folder), *overrides)


def _change_trainer(saved: DictConfig, config: DictConfig, overrides: Sequence[str]) -> None:
    """Take over what a command line says of the trainer."""
    for override in overrides:
        key = override.lstrip("+").partition("=")[0]
        if key.startswith("trainer."):
            OmegaConf.update(saved, key, OmegaConf.select(config, key), force_add=True)


def _check_laid_out(saved: DictConfig, epochs: int) -> None:
    """Check that a run whose schedule depends on its epochs has as many as it was laid out for."""
    if saved.trainer.max_epochs != epochs and getattr(
        SCHEDULES.get(saved.schedule.name), "laid_out", False
    ):
        raise UserError(
            f"schedule={saved.schedule.name} is laid out for trainer.max_epochs={epochs}, got "
            f"{saved.trainer.max_epochs}; leave it out, or start a new run"
        )
