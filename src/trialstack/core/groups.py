"""The config groups, typed: whatever is known of a key stands here with its field, once."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from trialstack.core.key import Group, key
from trialstack.core.objective import METRIC
from trialstack.core.rule import (
    FLOAT32,
    INT64,
    Rule,
    class_name,
    flag,
    fraction_or_count,
    not_negative,
    number,
    one_of,
    or_null,
    positive,
    probability,
    whole,
)

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

_TIME = re.compile(r"\d{1,6}:\d\d:\d\d:\d\d")


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


def _is_devices(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(type(index) is int and index >= 0 for index in value)
    return value in ("auto", -1) or (type(value) is int and value >= 1)


def _is_widths(value: Any) -> bool:
    return isinstance(value, list) and all(
        type(width) is int and 1 <= width <= INT64.high for width in value
    )


def _is_transforms(value: Any) -> bool:
    return value is None or (
        isinstance(value, list) and all(isinstance(x, dict) and "_target_" in x for x in value)
    )


def _is_betas(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(type(beta) is float and 0 <= beta < 1 for beta in value)
    )


def _is_class_weights(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(
            type(weight) in (int, float) and FLOAT32.low <= weight <= FLOAT32.high
            for weight in value
        )
    return value in (None, "balanced")


ROOT = Rule("a folder", lambda x: isinstance(x, str) and x.isprintable() and x != "", "data")
"""Of `data.root`."""

PAD = Rule("auto, true or false", lambda x: x == "auto" or type(x) is bool, "auto")
"""Of `engine.pad`."""


def _target(remedy: str) -> Any:
    return key(class_name(remedy), name="_target_")


@dataclass(frozen=True, kw_only=True)
class Component(Group):
    """A class, by its dotted name, and what it is called with.

    Attributes:
        target: the class.
    """

    target: str = _target("lightning.pytorch.callbacks.EarlyStopping")


@dataclass(frozen=True, kw_only=True)
class DataConfig(Component):
    """A dataset, how it is split, and its minibatches.

    Attributes:
        batch_size: samples in a minibatch.
        val_size: samples that validate, the first ones of the training set.
        normalize: `unit`, 0 to 1, or `standard`, mean 0 and deviation 1 of the training part.
        root: folder in which datasets are.
        download: whether what is missing or damaged is fetched.
        augment: transforms of training samples.
        folds: parts of the training set that validate in turn, in the place of `val_size`.
        fold: the part that does, from 0.
    """

    target: str = _target("trialstack.data.Digits")
    batch_size: int = key(whole(1, "32"))
    val_size: int = key(whole(1, "300"), default=5000)
    normalize: str = key(one_of("unit", "standard"), default="unit")
    root: str = key(ROOT, default="data", learned=False)
    download: bool = key(flag("true"), default=True, learned=False)
    augment: list[Mapping[str, Any]] | None = key(
        Rule("a list of transforms, each with a _target_", _is_transforms, "null"), default=None
    )
    folds: int | None = key(or_null(whole(2, "5")), default=None)
    fold: int = key(whole(0, "0"), default=0, varies=True)


@dataclass(frozen=True, kw_only=True)
class ModelConfig(Component):
    """A network of any kind."""

    target: str = _target("trialstack.models.MLP")


@dataclass(frozen=True, kw_only=True)
class MLPConfig(ModelConfig):
    """Of `trialstack.models.MLP`.

    Attributes:
        hidden: units of each hidden layer.
        dropout: part of the hidden units that a step leaves out.
        activation: of hidden layers.
        init: of weights; biases are 0.
    """

    hidden: list[int] = key(
        Rule("a list of whole numbers of at least 1, one a hidden layer", _is_widths, "[300,100]")
    )
    dropout: float = key(probability("0.2"), default=0.0, varies=True)
    activation: str = key(
        one_of("relu", "tanh", "gelu", "silu", "leaky_relu", "elu"), default="relu"
    )
    init: str = key(one_of(*INITIALIZERS), default="xavier_uniform", varies=True)


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig(Component):
    """An optimizer of any kind; what it is not given has its class's default.

    Attributes:
        lr: learning rate, which the schedule begins with.
        momentum: of SGD and RMSprop.
        weight_decay: of the weights, a step, times the learning rate.
        nesterov: Nesterov's momentum in the place of the plain one.
    """

    target: str = _target("torch.optim.SGD")
    lr: float | None = key(not_negative("0.01"), default=None, varies=True)
    momentum: float | None = key(
        number("from 0 to 1", lambda x: 0 <= x <= 1, "0.9"), default=None, varies=True
    )
    dampening: float | None = key(number("from 0 to 1", lambda x: 0 <= x <= 1, "0.0"), default=None)
    weight_decay: float | None = key(not_negative("0.0"), default=None, varies=True)
    nesterov: bool | None = key(flag("false"), default=None)
    maximize: bool | None = key(flag("false"), default=None)
    amsgrad: bool | None = key(flag("false"), default=None)
    decoupled_weight_decay: bool | None = key(flag("false"), default=None)
    capturable: bool | None = key(flag("false"), default=None)
    differentiable: bool | None = key(flag("false"), default=None)
    foreach: bool | None = key(or_null(flag("null")), default=None)
    fused: bool | None = key(or_null(flag("null")), default=None)


@dataclass(frozen=True, kw_only=True)
class AdamConfig(OptimizerConfig):
    """Of torch.optim.Adam and AdamW.

    Attributes:
        betas: part of the averages of gradients and of their squares that a step keeps.
        eps: what is added to the root of the latter.
    """

    betas: list[float] | None = key(
        Rule(
            "two numbers with a point, from 0.0 up to, but not including, 1.0",
            _is_betas,
            "[0.9,0.999]",
        ),
        default=None,
        varies=True,
    )
    eps: float | None = key(positive("1e-7"), default=None, varies=True)


@dataclass(frozen=True, kw_only=True)
class RMSpropConfig(OptimizerConfig):
    """Of torch.optim.RMSprop.

    Attributes:
        alpha: part of the average of squared gradients that a step keeps.
        eps: what is added to its root.
        centered: whether the square of the average of gradients is taken off it.
    """

    alpha: float | None = key(probability("0.9"), default=None, varies=True)
    eps: float | None = key(positive("1e-7"), default=None, varies=True)
    centered: bool | None = key(flag("false"), default=None)


@dataclass(frozen=True, kw_only=True)
class AdagradConfig(OptimizerConfig):
    """Of torch.optim.Adagrad.

    Attributes:
        lr_decay: times the number of steps before, plus 1: what the learning rate is divided by.
        initial_accumulator_value: what the sum of squared gradients begins with.
        eps: what is added to its root.
    """

    lr_decay: float | None = key(not_negative("0.0"), default=None, varies=True)
    initial_accumulator_value: float | None = key(not_negative("0.1"), default=None, varies=True)
    eps: float | None = key(positive("1e-7"), default=None, varies=True)


@dataclass(frozen=True, kw_only=True)
class LossConfig(Component):
    """A loss of any kind."""

    target: str = _target("trialstack.losses.CrossEntropyLoss")


@dataclass(frozen=True, kw_only=True)
class CrossEntropyConfig(LossConfig):
    """Of `trialstack.losses.CrossEntropyLoss`.

    Attributes:
        label_smoothing: part of the target that all classes share.
        class_weights: of samples by their class; `balanced`: as if all classes were equally
            frequent in training.
    """

    label_smoothing: float = key(probability("0.1"), default=0.0, varies=True)
    class_weights: list[float] | str | None = key(
        Rule(
            "a list of numbers above 0, one a class, or balanced, or null",
            _is_class_weights,
            "balanced",
        ),
        default=None,
        varies=True,
    )


@dataclass(frozen=True, kw_only=True)
class EngineConfig(Group):
    """How a trial is trained.

    Attributes:
        name: `stacked`, `eager`, or `auto`: the former where it can train the trial.
        steps_per_execution: optimizer steps in a chunk.
        max_stack: trials in a stack at most; None for as many as the memory holds.
        pad: whether networks of other widths train in the same stack, padded with zeros; `auto`:
            where that is faster.
        tf32: whether a GPU may round what it multiplies to 10 bits, which is faster.
    """

    name: str = key(one_of("auto", "stacked", "eager"), varies=True)
    steps_per_execution: int = key(whole(1, "64"), default=64)
    max_stack: int | None = key(or_null(whole(1, "64")), default=None, varies=True, learned=False)
    pad: bool | str = key(PAD, default="auto", learned=False)
    tf32: bool = key(flag("false"), default=False)


@dataclass(frozen=True, kw_only=True)
class TrainerConfig(Group):
    """Arguments of Lightning's Trainer; what it is not given has Lightning's default.

    Attributes:
        accelerator: kind of device.
        devices: how many of them, or which.
        strategy: how several train together.
        precision: of weights and products.
        max_epochs: epochs.
        max_time: after which the epoch that is under way is the last one, DD:HH:MM:SS.
        limit_train_batches: minibatches of an epoch, or a part of them.
        limit_val_batches: minibatches of a validation, or a part of them.
        overfit_batches: minibatches, or a part, that both train and validate.
        check_val_every_n_epoch: epochs from one validation to the next.
        fast_dev_run: minibatches of the only epoch, 1 if true.
        val_check_interval: minibatches from one validation to the next, or a part of an epoch.
        min_epochs: epochs that are trained in any case.
    """

    accelerator: str = key(one_of("auto", "cpu", "gpu", "cuda", "mps"), in_stack=True)
    devices: int | str | list[int] = key(
        Rule("a whole number of at least 1, a list of device numbers, or auto", _is_devices, "1"),
        in_stack=True,
    )
    strategy: str = key(
        Rule("the name of a strategy of Lightning", lambda x: isinstance(x, str), "auto"),
        in_stack=True,
    )
    precision: str | int = key(
        Rule(f"one of {', '.join(PRECISIONS)}", lambda x: str(x) in PRECISIONS, PRECISIONS[0]),
        in_stack=True,
    )
    max_epochs: int = key(whole(1, "30"), in_stack=True)
    max_time: str | dict[str, int] | None = key(
        or_null(Rule("a time above 0 as DD:HH:MM:SS", _is_time, "00:01:00:00")),
        default=None,
        in_stack=True,
    )
    limit_train_batches: int | float = key(fraction_or_count("1.0"), in_stack=True)
    limit_val_batches: int | float = key(fraction_or_count("1.0"), in_stack=True)
    overfit_batches: int | float = key(fraction_or_count("0.0"), default=0.0)
    check_val_every_n_epoch: int = key(whole(1, "1"), in_stack=True)
    profiler: str | None = key(
        Rule(
            "simple, advanced, pytorch or null",
            lambda x: x in (None, "simple", "advanced", "pytorch"),
            "simple",
        ),
        default=None,
        in_stack=True,
    )
    fast_dev_run: bool | int = key(
        Rule(
            "true, false or a number of minibatches",
            lambda x: type(x) is bool or (type(x) is int and x >= 0),
            "true",
        ),
        in_stack=True,
    )
    deterministic: bool | str | None = key(
        Rule("true, false or warn", lambda x: type(x) is bool or x == "warn", "false"),
        default=None,
        in_stack=True,
    )
    gradient_clip_val: float | None = key(or_null(not_negative("1.0")), default=None)
    gradient_clip_algorithm: str | None = key(or_null(one_of("norm", "value")), default=None)
    accumulate_grad_batches: int = key(whole(1, "1"), default=1)
    val_check_interval: int | float | None = key(
        Rule(
            "a whole number of minibatches of at least 1, or a part of them above 0.0 and up to "
            "1.0",
            lambda x: x is None or (type(x) is int and x >= 1) or (type(x) is float and 0 < x <= 1),
            "1.0",
        ),
        default=None,
    )
    max_steps: int = key(
        Rule(
            "a whole number of at least 1, or -1 for no limit",
            lambda x: type(x) is int and (x == -1 or x >= 1),
            "-1",
        ),
        default=-1,
    )
    log_every_n_steps: int | None = key(or_null(whole(0, "50")), default=None, in_stack=True)
    sync_batchnorm: bool = key(flag("false"), default=False)
    detect_anomaly: bool = key(flag("false"), default=False)
    inference_mode: bool = key(flag("true"), default=True, in_stack=True)
    # Lightning checks what follows by itself.
    min_epochs: int | None = key(default=None, in_stack=True)
    limit_test_batches: Any = key(default=None, in_stack=True)
    limit_predict_batches: Any = key(default=None, in_stack=True)
    benchmark: Any = key(default=None, in_stack=True)
    enable_progress_bar: Any = key(default=None, in_stack=True)
    enable_model_summary: Any = key(default=None, in_stack=True)
    enable_checkpointing: Any = key(default=None, in_stack=True)
    num_sanity_val_steps: Any = key(default=None, in_stack=True)
    num_nodes: Any = key(default=None, in_stack=True)
    default_root_dir: Any = key(default=None, in_stack=True)

    @property
    def epochs(self) -> int:
        """That are trained."""
        return 1 if self.fast_dev_run else self.max_epochs

    @property
    def batches_of_epoch(self) -> int | float:
        """What limits an epoch's minibatches: a number or a part of them."""
        return int(self.fast_dev_run) or self.limit_train_batches

    @property
    def bits(self) -> int:
        """Of a weight, as the stacked engine has it."""
        return 64 if str(self.precision).startswith("64") else 32


_WATCHED = Rule(f"{METRIC.must}, or lr", lambda x: x == "lr" or METRIC.holds(x), METRIC.remedy)
"""What callbacks can watch."""


@dataclass(frozen=True, kw_only=True)
class CallbackConfig(Component):
    """A callback of Lightning.

    Attributes:
        monitor: what it watches.
    """

    monitor: str | None = key(or_null(_WATCHED), default=None)


@dataclass(frozen=True, kw_only=True)
class EarlyStoppingConfig(CallbackConfig):
    """Of lightning.pytorch.callbacks.EarlyStopping.

    Attributes:
        mode: whether what is watched shall fall or rise.
        patience: validations without an improvement that do not stop it.
        min_delta: change that is an improvement.
        stopping_threshold: value that is good enough.
        divergence_threshold: value that is hopeless.
    """

    monitor: str | None = key(_WATCHED, default=None)
    mode: str | None = key(one_of("min", "max"), default=None)
    patience: int | None = key(whole(0, "5"), default=None)
    min_delta: float | None = key(number("of any size", lambda x: True, "0.0"), default=None)
    stopping_threshold: float | None = key(
        or_null(number("of any size", lambda x: True, "0.9")), default=None
    )
    divergence_threshold: float | None = key(
        or_null(number("of any size", lambda x: True, "10.0")), default=None
    )
