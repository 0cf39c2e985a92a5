"""What a config's values must be, checked before torch is loaded.

Rules that need the data (such as `data.val_size` against the training set) stand where the data is known.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import Container, DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from trialstack.errors import UserError
from trialstack.objective import OBJECTIVES


@dataclass(frozen=True)
class Rule:
    """`KEY must be MUST`; `remedy` is an override that is right."""

    must: str
    holds: Callable[[Any], bool]
    remedy: str


def _whole(low: int, remedy: str, high: int | None = None) -> Rule:
    must = f"a whole number of at least {low}" if high is None else f"a whole number from {low} to {high}"
    return Rule(must, lambda x: type(x) is int and low <= x and (high is None or x <= high), remedy)


def _number(must: str, holds: Callable[[float], bool], remedy: str) -> Rule:
    return Rule(f"a number {must}", lambda x: type(x) in (int, float) and math.isfinite(x) and holds(x), remedy)


def _one_of(*options: str) -> Rule:
    return Rule(f"one of {', '.join(options)}", lambda x: x in options, options[0])


def _flag(remedy: str) -> Rule:
    return Rule("true or false", lambda x: type(x) is bool, remedy)


def _not_negative(remedy: str) -> Rule:
    return _number("of at least 0", lambda x: x >= 0, remedy)


def _probability(remedy: str) -> Rule:
    return _number("from 0 up to, but not including, 1", lambda x: 0 <= x < 1, remedy)


def _fraction_or_count(remedy: str) -> Rule:
    return Rule(
        "a whole number of minibatches from 0, or a part of them from 0.0 to 1.0",
        lambda x: (type(x) is int and x >= 0) or (type(x) is float and 0 <= x <= 1),
        remedy,
    )


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 1


def _is_devices(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(type(index) is int and index >= 0 for index in value)
    return value in ("auto", -1) or (type(value) is int and value >= 1)


def _is_widths(value: Any) -> bool:
    return isinstance(value, list) and all(type(width) is int and width >= 1 for width in value)


RULES: dict[str, Rule] = {
    "seed": _whole(0, "1", high=2**32 - 1),
    "objective": _one_of(*OBJECTIVES),
    "test": _flag("true"),
    "sweep": Rule(
        "a name without /", lambda x: x is None or (str(x) not in ("", ".", "..") and "/" not in str(x)), "lr"
    ),
    "dry_run": _flag("true"),
    "on_error": _one_of("continue", "stop"),
    "retry": Rule("diverged or null", lambda x: x in (None, "diverged"), "diverged"),
    "data.root": Rule("a folder", lambda x: isinstance(x, str) and x.isprintable() and x != "", "data"),
    "data.batch_size": _whole(1, "32"),
    "data.val_size": _whole(1, "300"),
    "data.normalize": _one_of("unit", "standard"),
    "data.download": _flag("true"),
    "data.augment": Rule(
        "a list of transforms, each with a _target_",
        lambda x: x is None or (isinstance(x, list) and all(isinstance(t, dict) and "_target_" in t for t in x)),
        "null",
    ),
    "engine.name": _one_of("auto", "stacked", "eager"),
    "engine.steps_per_execution": _whole(1, "64"),
    "engine.max_stack": Rule("a whole number of at least 1, or null", lambda x: x is None or _is_count(x), "64"),
    "optimizer.lr": _not_negative("0.01"),
    "optimizer.momentum": _not_negative("0.9"),
    "optimizer.weight_decay": _not_negative("0.0"),
    "optimizer.nesterov": _flag("false"),
    "optimizer.eps": _number("above 0", lambda x: x > 0, "1e-7"),
    "optimizer.betas": Rule(
        "two numbers from 0 up to, but not including, 1",
        lambda x: isinstance(x, list) and len(x) == 2 and all(type(b) in (int, float) and 0 <= b < 1 for b in x),
        "[0.9,0.999]",
    ),
    "schedule.name": _one_of("constant", "cosine", "step", "onecycle"),
    "schedule.warmup_epochs": _not_negative("0.5"),
    "schedule.eta_min": _not_negative("0.0"),
    "schedule.step_size": _whole(1, "10"),
    "schedule.gamma": _number("above 0", lambda x: x > 0, "0.1"),
    "schedule.max_lr": _number("above 0", lambda x: x > 0, "0.1"),
    "schedule.pct_start": _number("between 0 and 1", lambda x: 0 < x < 1, "0.3"),
    "schedule.div_factor": _number("above 0", lambda x: x > 0, "25.0"),
    "schedule.final_div_factor": _number("above 0", lambda x: x > 0, "1e4"),
    "trainer.accelerator": _one_of("auto", "cpu", "gpu", "cuda", "mps", "tpu"),
    "trainer.devices": Rule("a whole number of at least 1, a list of device numbers, or auto", _is_devices, "1"),
    "trainer.max_epochs": _whole(1, "30"),
    "trainer.limit_train_batches": _fraction_or_count("1.0"),
    "trainer.limit_val_batches": _fraction_or_count("1.0"),
    "trainer.check_val_every_n_epoch": _whole(1, "1"),
    "trainer.profiler": Rule(
        "simple, advanced, pytorch or null", lambda x: x in (None, "simple", "advanced", "pytorch"), "simple"
    ),
    "trainer.fast_dev_run": Rule(
        "true, false or a number of minibatches", lambda x: type(x) is bool or (type(x) is int and x >= 0), "true"
    ),
}

MLP_RULES: dict[str, Rule] = {
    "model.hidden": Rule("a list of whole numbers of at least 1, one a hidden layer", _is_widths, "[300,100]"),
    "model.dropout": _probability("0.2"),
    "model.activation": _one_of("relu", "tanh", "gelu"),
    "model.init": Rule("the name of an initializer of torch.nn.init", lambda x: isinstance(x, str), "xavier_uniform"),
}


def resolved(config: DictConfig) -> dict[str, Any]:
    """Return a composed config as plain values, its interpolations resolved, without its `hydra` node.

    Raises:
        UserError: a value is missing or cannot be interpolated.
    """
    values = {}
    try:
        for key in config:
            if key != "hydra":
                value = config[key]
                is_group = isinstance(value, Container)
                values[str(key)] = (
                    OmegaConf.to_container(value, resolve=True, throw_on_missing=True) if is_group else value
                )
    except OmegaConfBaseException as error:
        raise UserError(f"{error.full_key} has no value: {str(error).splitlines()[0]}") from error
    return values


def check(values: Mapping[str, Any]) -> None:
    """Check a resolved config; keys that it lacks are not missed.

    Raises:
        UserError: a value breaks its rule.
    """
    _check(values, RULES)
    if values["model"].get("_target_") == "trialstack.models.MLP":
        _check(values, MLP_RULES)
    trainer, schedule, optimizer = values["trainer"], values["schedule"], values["optimizer"]
    if values["objective"].startswith("val/") and not trainer["limit_val_batches"]:
        raise UserError(
            f"objective={values['objective']} needs validation, got trainer.limit_val_batches=0; "
            "try objective=train/loss"
        )
    if not trainer["limit_train_batches"]:
        raise UserError("trainer.limit_train_batches must be above 0, got 0: nothing would be trained; try 1.0")
    if schedule.get("warmup_epochs", 0) >= trainer["max_epochs"]:
        raise UserError(
            f"schedule.warmup_epochs < {trainer['max_epochs']} must hold (trainer.max_epochs), got "
            f"{schedule['warmup_epochs']}; try schedule.warmup_epochs=0.5"
        )
    if optimizer.get("nesterov") and not optimizer.get("momentum"):
        raise UserError("optimizer.nesterov=true needs optimizer.momentum above 0, got 0; try optimizer.momentum=0.9")


PREDICTION_RULES: dict[str, Rule] = {
    "accelerator": _one_of("auto", "cpu", "gpu"),
    "index": Rule(
        "a list of sample numbers from 0",
        lambda x: all(type(i) is int and i >= 0 for i in as_list(x)),
        "[0,1,2]",
    ),
    "images": Rule(
        "a list of files",
        lambda x: all(isinstance(file, str) for file in as_list(x)),
        "[shoe.png]",
    ),
    "invert": Rule("true, false or auto", lambda x: x == "auto" or type(x) is bool, "auto"),
    "output": Rule(
        "a file that ends in .csv or .json", lambda x: x is None or str(x).endswith((".csv", ".json")), "labels.csv"
    ),
}


def as_list(value: Any) -> list[Any]:
    """Return the items of a list, or a single value as a list of one; of null, none."""
    if value is None:
        return []
    return list(value) if isinstance(value, (list, ListConfig)) else [value]


def check_request(config: DictConfig) -> None:
    """Check the config of `evaluate.py` or `predict.py`.

    Raises:
        UserError: a value breaks its rule, or not exactly one of `index` and `images` is given, or there is no folder
            for `output`.
    """
    values: Any = OmegaConf.to_container(config, resolve=True)
    _check(values, PREDICTION_RULES)
    if "index" in config and bool(as_list(config.index)) == bool(as_list(config.images)):
        got = "both" if as_list(config.index) else "neither"
        raise UserError(f"either index=[0,1,2] or images=[a.png,...] is needed, got {got}")
    folder = Path(str(values.get("output") or "")).parent
    if not folder.is_dir():
        raise UserError(f"cannot write output={values['output']}: there is no folder {folder}; try output=labels.csv")


def _check(values: Any, rules: Mapping[str, Rule]) -> None:
    for key, rule in rules.items():
        group, _, name = key.rpartition(".")
        scope = values.get(group) or {} if group else values
        if name in scope and not rule.holds(scope[name]):
            raise UserError(f"{key} must be {rule.must}, got {scope[name]!r}; try {key}={rule.remedy}")
