"""What classes of torch, of Lightning and of the user's own say to a config, asked before anything
is written.

Each group is tried as it will be used: a key that its class does not take, a value that it refuses,
a device that is not there. What needs the data, such as the shape of the images, is seen once that
is read.
"""

import inspect
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, Timer
from lightning.pytorch.loggers import Logger
from torch import nn
from torch.optim import Optimizer
from torchmetrics import Metric

from trialstack.core.build import build, cannot_be_made, named_class
from trialstack.core.configs import options
from trialstack.core.errors import UserError
from trialstack.core.groups import (
    Component,
    CrossEntropyConfig,
    DataConfig,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    TrainerConfig,
)
from trialstack.core.objective import MEASURED
from trialstack.core.schema import TrialConfig
from trialstack.core.unread import check_read
from trialstack.data.augmentation import build_transforms
from trialstack.data.datamodule import ImageDataModule
from trialstack.engine.metrics import Metrics, takes_classes
from trialstack.engine.networks import of_images, trains_itself
from trialstack.engine.stacked_optimizers import OPTIMIZERS
from trialstack.run.devices import check_devices
from trialstack.run.grouping import CLASSES, plan
from trialstack.run.quiet import quiet
from trialstack.run.tracking import TrackingLogger


def rehearse(configs: Sequence[TrialConfig], on_this_machine: bool = True) -> None:
    """Check the configs of trials, each by itself.

    Args:
        configs: of the trials.
        on_this_machine: they will train here, on its devices.

    Raises:
        UserError: a class does not take a key or a value, or `engine=stacked` cannot train a trial.
    """
    quiet()
    checks = _CHECKS | ({} if on_this_machine else {"trainer": _check_trainer_elsewhere})
    for config in configs:
        for group, check in checks.items():
            content = json.dumps([group, config.values[group]], sort_keys=True)
            if content not in _RIGHT:
                check(getattr(config, group))
                _RIGHT.add(content)
        _check_measured(config)
    plan(configs)


_RIGHT: set[str] = set()
"""Groups that were found right, so that each is tried once in a process."""


def _check_measured(config: TrialConfig) -> None:
    """What is watched must be measured; what a LightningModule logs is known when it does."""
    if trains_itself(config.model.values):
        if config.metrics:
            raise UserError(
                f"metrics are measured of logits, got {', '.join(config.metrics)} with "
                f"{config.model.target}, a LightningModule, which logs its own; try metrics=none"
            )
        return
    measured = [*MEASURED, *(f"val/{name}" for name in config.metrics)]
    for key, watched in config.watched.items():
        known = [*measured, *(["lr"] if key != "objective" else [])]
        if watched not in known:
            raise UserError(
                f"{key} must be one of {', '.join(known)}, got {watched!r}; add a metric of that "
                f"name, as metrics=f1 does, or try {key}={known[0]}"
            )


def _check_trainer(config: TrainerConfig) -> None:
    check_devices(config.accelerator, config.devices)
    _make_trainer(config, {})


def _check_trainer_elsewhere(config: TrainerConfig) -> None:
    _make_trainer(config, {"accelerator": "auto", "devices": "auto"})


def _make_trainer(config: TrainerConfig, own: Mapping[str, Any]) -> None:
    check_read(
        config.values,
        inspect.signature(Trainer).parameters,
        "trainer.",
        "lightning.Trainer does not take",
    )
    arguments = {name: value for name, value in config.values.items() if name != "max_time"}
    try:
        Timer(config.max_time)
        with warnings.catch_warnings(action="ignore"):  # they come when it is made to train
            Trainer(**{**arguments, **_UNSEEN, **own})
    except Exception as error:
        raise UserError(
            f"trainer: {_said(error)}; see {options('trainer')} for what works"
        ) from error


_UNSEEN = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
"""Arguments of a Trainer that trains nothing."""


def _check_optimizer(config: OptimizerConfig) -> None:
    """Make one for a parameter, and a step with those whose steps are known to need no more than
    that.
    """
    cls = named_class("optimizer", config.values, Optimizer)
    _check_arguments("optimizer", cls, config, params=())
    parameter = nn.Parameter(torch.zeros(1, 1))
    try:
        optimizer = build("optimizer", config.values, Optimizer, [parameter])
        if cls in OPTIMIZERS:
            parameter.grad = torch.zeros_like(parameter)
            optimizer.step()
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"optimizer: {config.target} cannot make a step: {_said(error)}") from error


def _check_model(config: ModelConfig) -> None:
    cls = named_class("model", config.values, nn.Module)
    _check_arguments("model", cls, config, **of_images(config.values))


def _check_loss(config: LossConfig) -> None:
    """Make one; weights that follow from the data are made with it."""
    cls = named_class("loss", config.values, nn.Module)
    _check_arguments("loss", cls, config)
    values = dict(config.values)
    if isinstance(config, CrossEntropyConfig) and config.class_weights == "balanced":
        values["class_weights"] = None
    build("loss", values, nn.Module)


def _check_metrics(configs: Mapping[str, Component]) -> None:
    for name, config in configs.items():
        group = f"metrics.{name}"
        cls = named_class(group, config.values, Metric)  # type: ignore[type-abstract]
        _check_arguments(group, cls, config, **{"num_classes": 0} if takes_classes(cls) else {})
    Metrics({name: config.values for name, config in configs.items()}, CLASSES)


def _check_data(config: DataConfig) -> None:
    cls = named_class("data", config.values, ImageDataModule)
    missing = [name for name in ("dataset", "class_names") if not hasattr(cls, name)]
    if cls.read is ImageDataModule.read or missing:
        raise UserError(
            f"data._target_ must name a dataset with {', '.join(missing) or 'read'}, got "
            f"{config.target}; try data=digits"
        )
    _check_arguments("data", cls, config, seed=0)
    augment = build_transforms(config.augment or [])
    build("data", config.values, ImageDataModule, augment=augment, seed=0).prepare_data()


def _check_callbacks(configs: Mapping[str, Component]) -> None:
    for name, config in configs.items():
        group = f"callbacks.{name}"
        _check_arguments(group, named_class(group, config.values, Callback), config)


def _check_loggers(configs: Mapping[str, Component]) -> None:
    """Only what they take: some begin to write, or to talk to a server, when they are made."""
    for name, config in configs.items():
        group = f"logger.{name}"
        cls = named_class(group, config.values, Logger)  # type: ignore[type-abstract]
        _check_arguments(group, cls, config)
        if issubclass(cls, TrackingLogger):
            cls.rehearse(config.values)


def _check_arguments(group: str, cls: type[Any], config: Component, **given: Any) -> None:
    """Check the keys of a group against what its class takes.

    Args:
        group: for messages.
        cls: the class.
        config: of the group.
        **given: arguments that are no keys.
    """
    arguments = {key: value for key, value in config.values.items() if not key.startswith("_")}
    try:
        taken = inspect.signature(cls).parameters
    except (TypeError, ValueError):  # of classes that are not written in Python
        return
    if not any(parameter.kind == parameter.VAR_KEYWORD for parameter in taken.values()):
        names = [name for name in taken if name not in given]
        check_read(arguments, names, f"{group}.", f"{config.target} does not take")
    try:
        inspect.signature(cls).bind(**{**arguments, **given})
    except TypeError as error:
        raise cannot_be_made(group, config.values, error) from error


def _said(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")


_CHECKS: dict[str, Callable[[Any], None]] = {
    "data": _check_data,
    "model": _check_model,
    "optimizer": _check_optimizer,
    "loss": _check_loss,
    "metrics": _check_metrics,
    "trainer": _check_trainer,
    "callbacks": _check_callbacks,
    "logger": _check_loggers,
}
"""By group."""
