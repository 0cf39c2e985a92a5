"""What a config's keys must be, checked before torch is loaded and before anything is written.

What only a class of torch, of Lightning or of the user's own can say is asked in `rehearsal`.
"""

import math
import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from itertools import pairwise
from typing import Any

import psutil
from hydra.core.hydra_config import HydraConfig
from omegaconf import Container, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from trialstack.core.errors import UserError, quoted
from trialstack.core.objective import OBJECTIVES
from trialstack.core.rule import (
    FLOAT32,
    INT64,
    Rule,
    check_rules,
    class_name,
    flag,
    fraction_or_count,
    needed,
    not_negative,
    number,
    one_of,
    or_null,
    positive,
    probability,
    whole,
)
from trialstack.core.schedules import SCHEDULES, schedule
from trialstack.core.sizes import DATASETS, EVALUATION_BATCH, check_limits, check_sizes
from trialstack.core.unread import check_read, refers


def _is_devices(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(type(index) is int and index >= 0 for index in value)
    return value in ("auto", -1) or (type(value) is int and value >= 1)


def _is_widths(value: Any) -> bool:
    return isinstance(value, list) and all(type(width) is int and 1 <= width <= INT64.high for width in value)


def _is_time(value: Any) -> bool:
    """Tell what Lightning's Timer takes, and is above 0."""
    if isinstance(value, dict):
        try:
            return timedelta(**value) > timedelta(0)
        except (TypeError, OverflowError):
            return False
    return (
        isinstance(value, str) and _TIME.fullmatch(value.strip()) is not None and any(x in value for x in "123456789")
    )


_NO_NAME = re.compile(r"|null|true|false|[-+.\d].*", re.IGNORECASE)
_TIME = re.compile(r"\d{1,6}:\d\d:\d\d:\d\d")

PRECISIONS = (
    "32-true", "64-true", "bf16-mixed", "bf16-true", "16-mixed", "16-true", "32", "64", "16", "bf16",
)  # fmt: skip
"""Lightning's, apart from those of NVIDIA's Transformer Engine."""

INITIALIZERS = (
    "xavier_uniform", "xavier_normal", "kaiming_uniform", "kaiming_normal", "trunc_normal", "orthogonal", "uniform",
    "normal", "eye", "ones", "zeros",
)  # fmt: skip
"""Of torch.nn.init, those that make a matrix and need no argument."""

GROUPS = {
    "data": "digits",
    "model": "mlp300",
    "optimizer": "sgd",
    "schedule": "constant",
    "engine": "auto",
    "trainer": "auto",
    "logger": "none",
    "callbacks": "none",
}
"""Config groups, with an option that is right."""

RULES: dict[str, Rule] = {
    "seed": needed(whole(0, "1", high=2**32 - 1)),
    "objective": needed(one_of(*OBJECTIVES)),
    "test": needed(flag("true")),
    "resume": needed(Rule("a run folder, or null", lambda x: x is None or isinstance(x, str | int), "null")),
    "sweep": needed(
        Rule("a name without /", lambda x: x is None or (str(x) not in ("", ".", "..") and "/" not in str(x)), "lr")
    ),
    "dry_run": needed(flag("true")),
    "on_error": needed(one_of("continue", "stop")),
    "retry": needed(Rule("diverged or null", lambda x: x in (None, "diverged"), "diverged")),
    "folder": needed(Rule("a folder", lambda x: isinstance(x, str), "${hydra:runtime.output_dir}")),
    "data._target_": needed(class_name("trialstack.data.Digits")),
    "data.batch_size": needed(whole(1, "32")),
    "data.val_size": whole(1, "300"),
    "data.normalize": one_of("unit", "standard"),
    "data.root": Rule("a folder", lambda x: isinstance(x, str) and x.isprintable() and x != "", "data"),
    "data.download": flag("true"),
    "data.augment": Rule(
        "a list of transforms, each with a _target_",
        lambda x: x is None or (isinstance(x, list) and all(isinstance(t, dict) and "_target_" in t for t in x)),
        "null",
    ),
    "model._target_": needed(class_name("trialstack.models.MLP")),
    "engine.name": needed(one_of("auto", "stacked", "eager")),
    "engine.steps_per_execution": whole(1, "64"),
    "engine.max_stack": or_null(whole(1, "64")),
    "optimizer._target_": needed(class_name("torch.optim.SGD")),
    "optimizer.lr": not_negative("0.01"),
    "optimizer.momentum": number("from 0 to 1", lambda x: 0 <= x <= 1, "0.9"),
    "optimizer.dampening": number("from 0 to 1", lambda x: 0 <= x <= 1, "0.0"),
    "optimizer.weight_decay": not_negative("0.0"),
    "optimizer.nesterov": flag("false"),
    "optimizer.maximize": flag("false"),
    "optimizer.amsgrad": flag("false"),
    "optimizer.decoupled_weight_decay": flag("false"),
    "optimizer.capturable": flag("false"),
    "optimizer.differentiable": flag("false"),
    "optimizer.foreach": or_null(flag("null")),
    "optimizer.fused": or_null(flag("null")),
    "schedule.name": needed(one_of(*SCHEDULES)),
    **{f"schedule.{key}": rule for kind in SCHEDULES.values() for key, rule in kind.rules().items()},
    "trainer.accelerator": needed(one_of("auto", "cpu", "gpu", "cuda", "mps")),
    "trainer.devices": needed(
        Rule("a whole number of at least 1, a list of device numbers, or auto", _is_devices, "1")
    ),
    "trainer.strategy": needed(Rule("the name of a strategy of Lightning", lambda x: isinstance(x, str), "auto")),
    "trainer.precision": needed(Rule(f"one of {', '.join(PRECISIONS)}", lambda x: str(x) in PRECISIONS, PRECISIONS[0])),
    "trainer.max_epochs": needed(whole(1, "30")),
    "trainer.max_time": or_null(Rule("a time above 0 as DD:HH:MM:SS", _is_time, "00:01:00:00")),
    "trainer.limit_train_batches": needed(fraction_or_count("1.0")),
    "trainer.limit_val_batches": needed(fraction_or_count("1.0")),
    "trainer.overfit_batches": fraction_or_count("0.0"),
    "trainer.check_val_every_n_epoch": needed(whole(1, "1")),
    "trainer.profiler": Rule(
        "simple, advanced, pytorch or null", lambda x: x in (None, "simple", "advanced", "pytorch"), "simple"
    ),
    "trainer.fast_dev_run": needed(
        Rule("true, false or a number of minibatches", lambda x: type(x) is bool or (type(x) is int and x >= 0), "true")
    ),
    "trainer.deterministic": Rule("true, false or warn", lambda x: type(x) is bool or x == "warn", "false"),
    "trainer.gradient_clip_val": or_null(not_negative("1.0")),
    "trainer.gradient_clip_algorithm": or_null(one_of("norm", "value")),
    "trainer.accumulate_grad_batches": whole(1, "1"),
    "trainer.val_check_interval": Rule(
        "a whole number of minibatches of at least 1, or a part of them above 0.0 and up to 1.0",
        lambda x: x is None or (type(x) is int and x >= 1) or (type(x) is float and 0 < x <= 1),
        "1.0",
    ),
    "trainer.max_steps": Rule(
        "a whole number of at least 1, or -1 for no limit", lambda x: type(x) is int and (x == -1 or x >= 1), "-1"
    ),
    "trainer.log_every_n_steps": or_null(whole(0, "50")),
    "trainer.sync_batchnorm": flag("false"),
    "trainer.detect_anomaly": flag("false"),
    "trainer.inference_mode": flag("true"),
}
"""By key; a key of the config itself, of `data`, `model`, `engine` and `schedule` that is not here is not read."""

ADAM_RULES: dict[str, Rule] = {
    "optimizer.eps": positive("1e-7"),
    "optimizer.betas": Rule(
        "two numbers with a point, from 0.0 up to, but not including, 1.0",
        lambda x: isinstance(x, list) and len(x) == 2 and all(type(b) is float and 0 <= b < 1 for b in x),
        "[0.9,0.999]",
    ),
}

MLP_RULES: dict[str, Rule] = {
    "model.hidden": needed(Rule("a list of whole numbers of at least 1, one a hidden layer", _is_widths, "[300,100]")),
    "model.dropout": probability("0.2"),
    "model.activation": one_of("relu", "tanh", "gelu"),
    "model.init": one_of(*INITIALIZERS),
}

LAYERS = 1000
"""Hidden layers at most: fully connected ones without shortcuts have stopped learning long before."""

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

TOP_KEYS = {key for key in RULES if "." not in key} | set(GROUPS)
READ_KEYS = {*RULES, *ADAM_RULES, *MLP_RULES}

FOLDER = "${hydra:runtime.output_dir}"
"""What `folder` must be: it is for other keys to refer to."""


def resolved(config: DictConfig) -> dict[str, Any]:
    """Return a composed config as plain values, its interpolations resolved, without its `hydra` node.

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
                    OmegaConf.to_container(value, resolve=True, throw_on_missing=True) if is_group else value
                )
    except OmegaConfBaseException as error:
        raise UserError(f"{error.full_key} has no value: {str(error).splitlines()[0]}") from error
    return values


def _interpolated(config: DictConfig, key: str) -> bool:
    """Tell whether an interpolation refers to a key, in the config or in Hydra's."""
    return any(refers(part, key) for part in (config, HydraConfig.instance().cfg) if part is not None)


def check_options(arguments: Sequence[str]) -> None:
    """Check that a command line chooses options of groups by name, which Hydra takes for granted.

    Raises:
        UserError: one is null, a number, or true or false.
    """
    for argument in arguments:
        group, _, option = argument.lstrip("+").partition("=")
        if group in GROUPS and any(_NO_NAME.fullmatch(name.strip()) for name in option.split(",")):
            raise UserError(f"{group} must be the name of an option, got {argument}; try {group}={GROUPS[group]}")


def check_folder(config: DictConfig) -> None:
    """Check that a config's `folder` is Hydra's, which a trial writes to whatever stands there.

    Raises:
        UserError: it is another.
    """
    folder = OmegaConf.to_container(OmegaConf.masked_copy(config, ["folder"]), resolve=False)
    if folder != {"folder": FOLDER}:
        got = folder.get("folder") if isinstance(folder, dict) else None
        raise UserError(f"folder must be {FOLDER}, got {quoted(got)}; try hydra.run.dir={got}, with -m hydra.sweep.dir")


def check(values: Mapping[str, Any]) -> None:
    """Check a resolved config.

    Raises:
        UserError: a value breaks its rule, is missing, or is read by nothing.
    """
    for group, option in GROUPS.items():
        if not isinstance(values.get(group), dict):
            raise UserError(f"{group} must be a group of keys, got {quoted(values.get(group))}; try {group}={option}")
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
            raise UserError(f"schedule.name={name} needs schedule.{key}, got none; try schedule={name}")
    check_read(group, ("name", *keys), "schedule.", f"schedule={name} does not read")
    if group.get("warmup_epochs", 0) >= epochs:
        raise UserError(
            f"schedule.warmup_epochs < {epochs} must hold (trainer.max_epochs), got {group['warmup_epochs']}; "
            "try schedule.warmup_epochs=0.5"
        )


def _check_optimizer(values: Mapping[str, Any]) -> None:
    optimizer = values["optimizer"]
    if optimizer["_target_"] in ("torch.optim.Adam", "torch.optim.AdamW"):
        check_rules(values, ADAM_RULES)
    if optimizer.get("nesterov") and not optimizer.get("momentum"):
        raise UserError("optimizer.nesterov=true needs optimizer.momentum above 0, got 0; try optimizer.momentum=0.9")
    rate = schedule(values["schedule"]).largest(optimizer.get("lr", 0), values["trainer"]["max_epochs"])
    largest = rate + _log10_of_largest_factor(optimizer)
    if largest > math.log10(FLOAT32.high):
        raise UserError(
            "the learning rate, with what multiplies it (schedule.*, optimizer.weight_decay, 1 / (1 - betas[0])), must "
            f"be at most 3.4e38, all that float32 holds, got 1e{largest:.0f}; try optimizer.lr=0.01 schedule=constant"
        )


def _log10_of_largest_factor(optimizer: Mapping[str, Any]) -> float:
    """What an optimizer multiplies the learning rate by at most, in one step."""
    beta = (
        optimizer["betas"][0]
        if optimizer["_target_"] in ("torch.optim.Adam", "torch.optim.AdamW") and "betas" in optimizer
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
            f"objective={objective} needs validation, got trainer.limit_val_batches=0; try objective=train/loss"
        )
    every, epochs = trainer["check_val_every_n_epoch"], trainer["max_epochs"]
    if every > epochs and not trainer["fast_dev_run"]:
        raise UserError(
            f"trainer.check_val_every_n_epoch <= {epochs} must hold (trainer.max_epochs) for objective={objective}, "
            f"got {every}; try trainer.check_val_every_n_epoch=1"
        )


def _check_trainer(trainer: Mapping[str, Any]) -> None:
    for key, instead in OURS.items():
        if key in trainer:
            raise UserError(f"trainer.{key} is for trialstack to say, got {quoted(trainer[key])}; {instead}")
    if not trainer["limit_train_batches"]:
        raise UserError("trainer.limit_train_batches must be above 0, got 0: nothing would be trained; try 1.0")
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
    check_limits(values["trainer"], -(-(dataset.samples - val_size) // batch_size), -(-val_size // EVALUATION_BATCH))


def _check_network(values: Mapping[str, Any]) -> None:
    """An MLP must fit into this machine: on any device, its first weights and its checkpoints are in there."""
    model = values["model"]
    if model["_target_"] != "trialstack.models.MLP":
        return
    check_rules(values, MLP_RULES)
    check_read(model, ["_target_", *(key.partition(".")[2] for key in MLP_RULES)], "model.", "MLP does not read")
    if len(model["hidden"]) > LAYERS:
        raise UserError(
            f"model.hidden must have at most {LAYERS} layers, got {len(model['hidden'])}; try model.hidden=[300,100]"
        )
    dataset = DATASETS.get(values["data"]["_target_"])
    inputs, classes = (dataset.pixels, dataset.classes) if dataset else (1, 1)
    widths = [inputs, *model["hidden"], classes]
    parameters = sum(before * after + after for before, after in pairwise(widths))
    needed, there = 2 * 4 * parameters, psutil.virtual_memory().total
    if needed > there:
        raise UserError(
            f"model.hidden={quoted(model['hidden'])} has {parameters:.3g} parameters: they and a checkpoint take "
            f"{needed / 2**30:.3g} GiB, this machine has {there / 2**30:.3g}; try model.hidden=[300,100]"
        )


def _check_parts(group: str, parts: Mapping[str, Any]) -> None:
    for name, part in parts.items():
        if not isinstance(part, dict) or not isinstance(part.get("_target_"), str):
            raise UserError(
                f"{group}.{name} must have a _target_, the name of a class, got {quoted(part)}; try ~{group}.{name}"
            )


def _check_callbacks(values: Mapping[str, Any]) -> None:
    """What Lightning's callbacks watch must be measured."""
    for name, callback in values["callbacks"].items():
        if not callback["_target_"].startswith("lightning."):
            continue
        prefix, rules = f"callbacks.{name}.", {"monitor": MONITOR}
        if callback["_target_"].endswith(".EarlyStopping"):
            rules |= EARLY_STOPPING_RULES
        check_rules({prefix[:-1]: callback}, {f"{prefix}{key}": rule for key, rule in rules.items()})
        monitor = callback.get("monitor")
        if str(monitor).startswith("val/") and not values["trainer"]["limit_val_batches"]:
            raise UserError(
                f"{prefix}monitor={monitor} needs validation, got trainer.limit_val_batches=0; try "
                f"{prefix}monitor=train/loss"
            )


def _keys(group: str) -> set[str]:
    """The keys of a group that have rules."""
    return {key.partition(".")[2] for key in RULES if key.startswith(f"{group}.")}
