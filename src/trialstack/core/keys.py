"""The keys of a config: whatever is known of one stands here, once."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from trialstack.core.objective import OBJECTIVES
from trialstack.core.rule import (
    INT64,
    Rule,
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
from trialstack.core.schedules import SCHEDULES


@dataclass(frozen=True)
class Key:
    """What is known of a key.

    Attributes:
        rule: what its value must be, and a value that is right; None if that is for others to say.
        varies: trials of a stack may differ in it.
        learned: it says what a trial learns, not where or how it is run: so it is part of what a
            trial is known by.
        in_stack: an argument of the Trainer that means the same to a stack.
    """

    rule: Rule | None = None
    varies: bool = False
    learned: bool = True
    in_stack: bool = False


@dataclass(frozen=True)
class Group(Key):
    """What is known of a config group, and so of all its keys, and an option that is right."""

    option: str = ""


def _is_devices(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(type(index) is int and index >= 0 for index in value)
    return value in ("auto", -1) or (type(value) is int and value >= 1)


def _is_widths(value: Any) -> bool:
    return isinstance(value, list) and all(
        type(width) is int and 1 <= width <= INT64.high for width in value
    )


def _is_time(value: Any) -> bool:
    """Tell what Lightning's Timer takes, and is above 0."""
    if isinstance(value, dict):
        try:
            return timedelta(**value) > timedelta(0)
        except (TypeError, OverflowError):
            return False
    return (
        isinstance(value, str)
        and _TIME.fullmatch(value.strip()) is not None
        and any(x in value for x in "123456789")
    )


_TIME = re.compile(r"\d{1,6}:\d\d:\d\d:\d\d")

PRECISIONS = (
    "32-true", "64-true", "bf16-mixed", "bf16-true", "16-mixed", "16-true", "32", "64", "16",
    "bf16",
)  # fmt: skip
"""Lightning's, apart from those of NVIDIA's Transformer Engine."""

INITIALIZERS = (
    "xavier_uniform", "xavier_normal", "kaiming_uniform", "kaiming_normal", "trunc_normal",
    "orthogonal", "uniform", "normal", "eye", "ones", "zeros",
)  # fmt: skip
"""Of torch.nn.init, those that make a matrix and need no argument."""

GROUPS = {
    "data": Group(option="digits"),
    "model": Group(option="mlp300"),
    "optimizer": Group(option="sgd"),
    "schedule": Group(option="constant"),
    "engine": Group(option="auto"),
    "trainer": Group(option="auto"),
    "logger": Group(option="none", varies=True, learned=False),
    "callbacks": Group(option="none"),
}

_TRAINER = (
    "limit_test_batches",
    "limit_predict_batches",
    "benchmark",
    "enable_progress_bar",
    "enable_model_summary",
    "enable_checkpointing",
    "num_sanity_val_steps",
    "num_nodes",
    "min_epochs",
    "default_root_dir",
)
"""Arguments of the Trainer that Lightning checks by itself."""

KEYS: dict[str, Key] = {
    "seed": Key(needed(whole(0, "1", high=2**32 - 1)), varies=True),
    "objective": Key(needed(one_of(*OBJECTIVES))),
    "test": Key(needed(flag("true")), varies=True),
    "resume": Key(
        needed(
            Rule("a run folder, or null", lambda x: x is None or isinstance(x, str | int), "null")
        ),
        varies=True,
        learned=False,
    ),
    "sweep": Key(
        needed(
            Rule(
                "a name without /",
                lambda x: x is None or (str(x) not in ("", ".", "..") and "/" not in str(x)),
                "lr",
            )
        ),
        varies=True,
        learned=False,
    ),
    "dry_run": Key(needed(flag("true")), varies=True, learned=False),
    "on_error": Key(needed(one_of("continue", "stop")), varies=True, learned=False),
    "retry": Key(
        needed(Rule("diverged or null", lambda x: x in (None, "diverged"), "diverged")),
        varies=True,
        learned=False,
    ),
    "folder": Key(
        needed(Rule("a folder", lambda x: isinstance(x, str), "${hydra:runtime.output_dir}")),
        varies=True,
        learned=False,
    ),
    "data._target_": Key(needed(class_name("trialstack.data.Digits"))),
    "data.batch_size": Key(needed(whole(1, "32"))),
    "data.val_size": Key(whole(1, "300")),
    "data.normalize": Key(one_of("unit", "standard")),
    "data.root": Key(
        Rule("a folder", lambda x: isinstance(x, str) and x.isprintable() and x != "", "data"),
        learned=False,
    ),
    "data.download": Key(flag("true"), learned=False),
    "data.augment": Key(
        Rule(
            "a list of transforms, each with a _target_",
            lambda x: (
                x is None
                or (isinstance(x, list) and all(isinstance(t, dict) and "_target_" in t for t in x))
            ),
            "null",
        )
    ),
    "model._target_": Key(needed(class_name("trialstack.models.MLP"))),
    "engine.name": Key(needed(one_of("auto", "stacked", "eager")), varies=True),
    "engine.steps_per_execution": Key(whole(1, "64")),
    "engine.max_stack": Key(or_null(whole(1, "64")), varies=True, learned=False),
    "optimizer._target_": Key(needed(class_name("torch.optim.SGD"))),
    "optimizer.lr": Key(not_negative("0.01"), varies=True),
    "optimizer.momentum": Key(number("from 0 to 1", lambda x: 0 <= x <= 1, "0.9"), varies=True),
    "optimizer.dampening": Key(number("from 0 to 1", lambda x: 0 <= x <= 1, "0.0")),
    "optimizer.weight_decay": Key(not_negative("0.0"), varies=True),
    "optimizer.nesterov": Key(flag("false")),
    "optimizer.maximize": Key(flag("false")),
    "optimizer.amsgrad": Key(flag("false")),
    "optimizer.decoupled_weight_decay": Key(flag("false")),
    "optimizer.capturable": Key(flag("false")),
    "optimizer.differentiable": Key(flag("false")),
    "optimizer.foreach": Key(or_null(flag("null"))),
    "optimizer.fused": Key(or_null(flag("null"))),
    "schedule.name": Key(needed(one_of(*SCHEDULES))),
    **{
        f"schedule.{name}": Key(rule, varies=True)
        for kind in SCHEDULES.values()
        for name, rule in kind.rules().items()
    },
    "trainer.accelerator": Key(needed(one_of("auto", "cpu", "gpu", "cuda", "mps")), in_stack=True),
    "trainer.devices": Key(
        needed(
            Rule(
                "a whole number of at least 1, a list of device numbers, or auto", _is_devices, "1"
            )
        ),
        in_stack=True,
    ),
    "trainer.strategy": Key(
        needed(Rule("the name of a strategy of Lightning", lambda x: isinstance(x, str), "auto")),
        in_stack=True,
    ),
    "trainer.precision": Key(
        needed(
            Rule(f"one of {', '.join(PRECISIONS)}", lambda x: str(x) in PRECISIONS, PRECISIONS[0])
        ),
        in_stack=True,
    ),
    "trainer.max_epochs": Key(needed(whole(1, "30")), in_stack=True),
    "trainer.max_time": Key(
        or_null(Rule("a time above 0 as DD:HH:MM:SS", _is_time, "00:01:00:00")), in_stack=True
    ),
    "trainer.limit_train_batches": Key(needed(fraction_or_count("1.0")), in_stack=True),
    "trainer.limit_val_batches": Key(needed(fraction_or_count("1.0")), in_stack=True),
    "trainer.overfit_batches": Key(fraction_or_count("0.0")),
    "trainer.check_val_every_n_epoch": Key(needed(whole(1, "1")), in_stack=True),
    "trainer.profiler": Key(
        Rule(
            "simple, advanced, pytorch or null",
            lambda x: x in (None, "simple", "advanced", "pytorch"),
            "simple",
        ),
        in_stack=True,
    ),
    "trainer.fast_dev_run": Key(
        needed(
            Rule(
                "true, false or a number of minibatches",
                lambda x: type(x) is bool or (type(x) is int and x >= 0),
                "true",
            )
        ),
        in_stack=True,
    ),
    "trainer.deterministic": Key(
        Rule("true, false or warn", lambda x: type(x) is bool or x == "warn", "false"),
        in_stack=True,
    ),
    "trainer.gradient_clip_val": Key(or_null(not_negative("1.0"))),
    "trainer.gradient_clip_algorithm": Key(or_null(one_of("norm", "value"))),
    "trainer.accumulate_grad_batches": Key(whole(1, "1")),
    "trainer.val_check_interval": Key(
        Rule(
            "a whole number of minibatches of at least 1, or a part of them above 0.0 and up to "
            "1.0",
            lambda x: x is None or (type(x) is int and x >= 1) or (type(x) is float and 0 < x <= 1),
            "1.0",
        )
    ),
    "trainer.max_steps": Key(
        Rule(
            "a whole number of at least 1, or -1 for no limit",
            lambda x: type(x) is int and (x == -1 or x >= 1),
            "-1",
        )
    ),
    "trainer.log_every_n_steps": Key(or_null(whole(0, "50")), in_stack=True),
    "trainer.sync_batchnorm": Key(flag("false")),
    "trainer.detect_anomaly": Key(flag("false")),
    "trainer.inference_mode": Key(flag("true"), in_stack=True),
    **{f"trainer.{name}": Key(in_stack=True) for name in _TRAINER},
    "callbacks.progress": Key(learned=False),
}
"""By dotted key; one of the config itself, of `data`, `model`, `engine` and `schedule` that is not
here is not read.
"""

ADAM_KEYS: dict[str, Key] = {
    "optimizer.eps": Key(positive("1e-7"), varies=True),
    "optimizer.betas": Key(
        Rule(
            "two numbers with a point, from 0.0 up to, but not including, 1.0",
            lambda x: (
                isinstance(x, list)
                and len(x) == 2
                and all(type(b) is float and 0 <= b < 1 for b in x)
            ),
            "[0.9,0.999]",
        ),
        varies=True,
    ),
}
"""Of Adam and AdamW."""

MLP_KEYS: dict[str, Key] = {
    "model.hidden": Key(
        needed(
            Rule(
                "a list of whole numbers of at least 1, one a hidden layer", _is_widths, "[300,100]"
            )
        )
    ),
    "model.dropout": Key(probability("0.2"), varies=True),
    "model.activation": Key(one_of("relu", "tanh", "gelu")),
    "model.init": Key(one_of(*INITIALIZERS), varies=True),
}
"""Of `trialstack.models.MLP`."""


def rules(keys: Mapping[str, Key]) -> dict[str, Rule]:
    """Return the rules of keys that have one."""
    return {name: key.rule for name, key in keys.items() if key.rule is not None}


def may_vary(name: str) -> bool:
    """Tell whether trials of a stack may differ in a key, or in a whole group."""
    return name in _VARYING


def is_learned(name: str) -> bool:
    """Tell whether a dotted key says what a trial learns: neither it nor what it is in says
    otherwise.
    """
    parts = name.split(".")
    prefixes = {".".join(parts[: end + 1]) for end in range(len(parts))}
    return not prefixes & _ELSEWHERE


_KNOWN: dict[str, Key] = {**KEYS, **ADAM_KEYS, **MLP_KEYS, **GROUPS}
_VARYING = {name for name, known in _KNOWN.items() if known.varies}
_ELSEWHERE = {name for name, known in _KNOWN.items() if not known.learned}
