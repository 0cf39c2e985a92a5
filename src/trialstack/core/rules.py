"""What a config's keys must be, checked before torch is loaded and before anything is written.

What only a class of torch, of Lightning or of the user's own can say is asked in `rehearsal`.
"""

import math
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import psutil
from hydra.core.hydra_config import HydraConfig
from omegaconf import Container, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from trialstack.core.errors import UserError, quoted
from trialstack.core.keys import ADAM_KEYS, GROUPS, KEYS, MLP_KEYS, rules
from trialstack.core.rule import FLOAT32, check_rules, number, one_of, or_null, whole
from trialstack.core.schedules import SCHEDULES, schedule
from trialstack.core.sizes import DATASETS, EVALUATION_BATCH, check_limits, check_sizes
from trialstack.core.unread import check_read, refers

_NO_NAME = re.compile(r"|null|true|false|[-+.\d].*", re.IGNORECASE)

LAYERS = 1000
"""Hidden layers at most: fully connected ones without shortcuts have stopped learning long before.
"""

OURS = {
    "logger": "try logger=none",
    "callbacks": "try callbacks=none",
    "default_root_dir": "try hydra.run.dir",
    "enable_checkpointing": "leave it out",
    "barebones": "leave it out",
}
"""Arguments of the Trainer that are no keys of `trainer`, and what is in their place."""

MONITOR = or_null(one_of("val/loss", "val/acc", "train/loss", "train/acc", "lr"))
"""What callbacks can watch."""

EARLY_STOPPING_RULES = {
    "monitor": one_of("val/loss", "val/acc", "train/loss", "train/acc", "lr"),
    "mode": one_of("min", "max"),
    "patience": whole(0, "5"),
    "min_delta": number("of any size", lambda x: True, "0.0"),
    "stopping_threshold": or_null(number("of any size", lambda x: True, "0.9")),
    "divergence_threshold": or_null(number("of any size", lambda x: True, "10.0")),
}

RULES = rules(KEYS)
TOP_KEYS = {key for key in RULES if "." not in key} | set(GROUPS)
READ_KEYS = {*RULES, *ADAM_KEYS, *MLP_KEYS}

FOLDER = "${hydra:runtime.output_dir}"
"""What `folder` must be: it is for other keys to refer to."""


def resolved(config: DictConfig) -> dict[str, Any]:
    """Return a composed config as plain values, its interpolations resolved, without its `hydra`
    node.

    Keys that are there only for interpolations to refer to are left out.

    Raises:
        UserError: a value is missing or cannot be interpolated.
    """
    values = {}
    try:
        for key in config:
            if key != "hydra" and (key in TOP_KEYS or not _interpolated(config, str(key))):
                value = config[key]
                is_group = isinstance(value, Container)
                values[str(key)] = (
                    OmegaConf.to_container(value, resolve=True, throw_on_missing=True)
                    if is_group
                    else value
                )
    except OmegaConfBaseException as error:
        raise UserError(f"{error.full_key} has no value: {str(error).splitlines()[0]}") from error
    return values


def _interpolated(config: DictConfig, key: str) -> bool:
    """Tell whether an interpolation refers to a key, in the config or in Hydra's."""
    return any(
        refers(part, key) for part in (config, HydraConfig.instance().cfg) if part is not None
    )


def check_options(arguments: Sequence[str]) -> None:
    """Check that a command line chooses options of groups by name, which Hydra takes for granted.

    Raises:
        UserError: one is null, a number, or true or false.
    """
    for argument in arguments:
        group, _, option = argument.lstrip("+").partition("=")
        if group in GROUPS and any(_NO_NAME.fullmatch(name.strip()) for name in option.split(",")):
            raise UserError(
                f"{group} must be the name of an option, got {argument}; try "
                f"{group}={GROUPS[group].option}"
            )


def check_folder(config: DictConfig) -> None:
    """Check that a config's `folder` is Hydra's, which a trial writes to whatever stands there.

    Raises:
        UserError: it is another.
    """
    folder = OmegaConf.to_container(OmegaConf.masked_copy(config, ["folder"]), resolve=False)
    if folder != {"folder": FOLDER}:
        got = folder.get("folder") if isinstance(folder, dict) else None
        raise UserError(
            f"folder must be {FOLDER}, got {quoted(got)}; try hydra.run.dir={got}, with -m "
            "hydra.sweep.dir"
        )


def check(values: Mapping[str, Any]) -> None:
    """Check a resolved config.

    Raises:
        UserError: a value breaks its rule, is missing, or is read by nothing.
    """
    for group, known in GROUPS.items():
        if not isinstance(values.get(group), dict):
            raise UserError(
                f"{group} must be a group of keys, got {quoted(values.get(group))}; try "
                f"{group}={known.option}"
            )
    check_rules(values, RULES)
    check_read(values, (*TOP_KEYS, *READ_KEYS))
    check_read(values["engine"], _keys("engine"), "engine.")
    _check_schedule(values)
    _check_optimizer(values)
    _check_validation(values)
    _check_trainer(values["trainer"])
    _check_data(values)
    _check_network(values)
    for group in ("callbacks", "logger"):
        _check_parts(group, values[group])
    _check_callbacks(values)


def _check_schedule(values: Mapping[str, Any]) -> None:
    group, epochs = values["schedule"], values["trainer"]["max_epochs"]
    name, keys = group["name"], SCHEDULES[group["name"]].rules()
    for key in keys:
        if key not in group:
            raise UserError(
                f"schedule.name={name} needs schedule.{key}, got none; try schedule={name}"
            )
    check_read(group, ("name", *keys), "schedule.", f"schedule={name} does not read")
    if group.get("warmup_epochs", 0) >= epochs:
        raise UserError(
            f"schedule.warmup_epochs < {epochs} must hold (trainer.max_epochs), got "
            f"{group['warmup_epochs']}; try schedule.warmup_epochs=0.5"
        )


def _check_optimizer(values: Mapping[str, Any]) -> None:
    optimizer = values["optimizer"]
    if optimizer["_target_"] in ("torch.optim.Adam", "torch.optim.AdamW"):
        check_rules(values, rules(ADAM_KEYS))
    if optimizer.get("nesterov") and not optimizer.get("momentum"):
        raise UserError(
            "optimizer.nesterov=true needs optimizer.momentum above 0, got 0; try "
            "optimizer.momentum=0.9"
        )
    rate = schedule(values["schedule"]).largest(
        optimizer.get("lr", 0), values["trainer"]["max_epochs"]
    )
    largest = rate + _log10_of_largest_factor(optimizer)
    if largest > math.log10(FLOAT32.high):
        raise UserError(
            "the learning rate, with what multiplies it (schedule.*, optimizer.weight_decay, 1 / "
            "(1 - betas[0])), must be at most 3.4e38, all that float32 holds, got "
            f"1e{largest:.0f}; try optimizer.lr=0.01 schedule=constant"
        )


def _log10_of_largest_factor(optimizer: Mapping[str, Any]) -> float:
    """What an optimizer multiplies the learning rate by at most, in one step."""
    beta = (
        optimizer["betas"][0]
        if optimizer["_target_"] in ("torch.optim.Adam", "torch.optim.AdamW")
        and "betas" in optimizer
        else 0.0
    )
    return max(-math.log10(1 - beta), math.log10(max(1.0, optimizer.get("weight_decay", 0))))


def _check_validation(values: Mapping[str, Any]) -> None:
    """The objective must be measured once at least."""
    objective, trainer = values["objective"], values["trainer"]
    if not objective.startswith("val/"):
        return
    if not trainer["limit_val_batches"]:
        raise UserError(
            f"objective={objective} needs validation, got trainer.limit_val_batches=0; try "
            "objective=train/loss"
        )
    every, epochs = trainer["check_val_every_n_epoch"], trainer["max_epochs"]
    if every > epochs and not trainer["fast_dev_run"]:
        raise UserError(
            f"trainer.check_val_every_n_epoch <= {epochs} must hold (trainer.max_epochs) for "
            f"objective={objective}, got {every}; try trainer.check_val_every_n_epoch=1"
        )


def _check_trainer(trainer: Mapping[str, Any]) -> None:
    for key, instead in OURS.items():
        if key in trainer:
            raise UserError(
                f"trainer.{key} is for trialstack to say, got {quoted(trainer[key])}; {instead}"
            )
    if not trainer["limit_train_batches"]:
        raise UserError(
            "trainer.limit_train_batches must be above 0, got 0: nothing would be trained; try 1.0"
        )
    if trainer.get("min_epochs") is not None and trainer["min_epochs"] > trainer["max_epochs"]:
        raise UserError(
            f"trainer.min_epochs <= {trainer['max_epochs']} must hold (trainer.max_epochs), got "
            f"{trainer['min_epochs']}; leave it out"
        )


def _check_data(values: Mapping[str, Any]) -> None:
    """What is known of this project's datasets; other ones are checked when they are read."""
    data = values["data"]
    dataset = DATASETS.get(data["_target_"])
    if dataset is None:
        return
    read = _keys("data") - (set() if dataset.downloads else {"root", "download"})
    check_read(data, read, "data.", f"{data['_target_']} does not read")
    val_size, batch_size = data.get("val_size", 5000), data["batch_size"]
    check_sizes(dataset.name, dataset.samples, val_size, batch_size)
    check_limits(
        values["trainer"],
        -(-(dataset.samples - val_size) // batch_size),
        -(-val_size // EVALUATION_BATCH),
    )


def _check_network(values: Mapping[str, Any]) -> None:
    """An MLP must fit into this machine: on any device, its first weights and its checkpoints are
    in there.
    """
    model = values["model"]
    if model["_target_"] != "trialstack.models.MLP":
        return
    check_rules(values, rules(MLP_KEYS))
    check_read(
        model,
        ["_target_", *(key.partition(".")[2] for key in MLP_KEYS)],
        "model.",
        "MLP does not read",
    )
    if len(model["hidden"]) > LAYERS:
        raise UserError(
            f"model.hidden must have at most {LAYERS} layers, got {len(model['hidden'])}; try "
            "model.hidden=[300,100]"
        )
    dataset = DATASETS.get(values["data"]["_target_"])
    inputs, classes = (dataset.pixels, dataset.classes) if dataset else (1, 1)
    widths = [inputs, *model["hidden"], classes]
    parameters = sum(before * after + after for before, after in pairwise(widths))
    needed, there = 2 * 4 * parameters, psutil.virtual_memory().total
    if needed > there:
        raise UserError(
            f"model.hidden={quoted(model['hidden'])} has {parameters:.3g} parameters: they and a "
            f"checkpoint take {needed / 2**30:.3g} GiB, this machine has {there / 2**30:.3g}; try "
            "model.hidden=[300,100]"
        )


def _check_parts(group: str, parts: Mapping[str, Any]) -> None:
    for name, part in parts.items():
        if not isinstance(part, dict) or not isinstance(part.get("_target_"), str):
            raise UserError(
                f"{group}.{name} must have a _target_, the name of a class, got {quoted(part)}; "
                f"try ~{group}.{name}"
            )


def _check_callbacks(values: Mapping[str, Any]) -> None:
    """What Lightning's callbacks watch must be measured."""
    for name, callback in values["callbacks"].items():
        if not callback["_target_"].startswith("lightning."):
            continue
        prefix, rules = f"callbacks.{name}.", {"monitor": MONITOR}
        if callback["_target_"].endswith(".EarlyStopping"):
            rules |= EARLY_STOPPING_RULES
        check_rules(
            {prefix[:-1]: callback}, {f"{prefix}{key}": rule for key, rule in rules.items()}
        )
        monitor = callback.get("monitor")
        if str(monitor).startswith("val/") and not values["trainer"]["limit_val_batches"]:
            raise UserError(
                f"{prefix}monitor={monitor} needs validation, got trainer.limit_val_batches=0; try "
                f"{prefix}monitor=train/loss"
            )


def _keys(group: str) -> set[str]:
    """The keys of a group that have rules."""
    return {key.partition(".")[2] for key in RULES if key.startswith(f"{group}.")}
