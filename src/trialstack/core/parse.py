"""A composed config as a `TrialConfig`: checked once, before torch is loaded and before anything is
written.

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
from trialstack.core.groups import (
    AdamConfig,
    CallbackConfig,
    Component,
    CrossEntropyConfig,
    DataConfig,
    EarlyStoppingConfig,
    EngineConfig,
    LossConfig,
    MLPConfig,
    ModelConfig,
    OptimizerConfig,
    TrainerConfig,
)
from trialstack.core.halving import HalvingConfig
from trialstack.core.rule import FLOAT32
from trialstack.core.schedule import Schedule, WarmedUp
from trialstack.core.schedules import SCHEDULES
from trialstack.core.schema import (
    GROUPS,
    KEYS,
    LOSSES,
    MODELS,
    OPTIMIZERS,
    SCHEDULE_NAME,
    TrialConfig,
)
from trialstack.core.sizes import (
    DATASETS,
    EVALUATION_BATCH,
    check_class_weights,
    check_folds,
    check_limits,
    check_sizes,
    validating,
)
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
            if key != "hydra" and (
                key in TrialConfig.known() or not _interpolated(config, str(key))
            ):
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
        if group in GROUPS and any(
            _NO_NAME.fullmatch(name.strip(" []")) for name in option.split(",")
        ):
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


def parse(values: Mapping[str, Any]) -> TrialConfig:
    """Return a resolved config, typed.

    Raises:
        UserError: a value breaks its rule, is missing, or is read by nothing.
    """
    for group, known in GROUPS.items():
        if not isinstance(values.get(group), dict):
            raise UserError(
                f"{group} must be a group of keys, got {quoted(values.get(group))}; try "
                f"{group}={known.option}"
            )
    check_read(values, KEYS)
    config = TrialConfig.parse(
        values,
        data=_data(values["data"]),
        model=_model(values["model"]),
        optimizer=_optimizer(values["optimizer"]),
        schedule=_schedule(values["schedule"]),
        loss=_loss(values["loss"]),
        metrics=_metrics(values["metrics"]),
        engine=_engine(values["engine"]),
        trainer=TrainerConfig.parse(values["trainer"], "trainer."),
        halving=_halving(values["halving"]),
        logger=_loggers(values["logger"]),
        callbacks=_callbacks(values["callbacks"]),
    )
    if config.continues and config.source is None:
        raise UserError("continue=true needs from=FOLDER, got none; name the run to train longer")
    _check_warmup(config.schedule, config.trainer)
    _check_rates(config)
    _check_validation(config)
    _check_trainer(config.trainer)
    _check_rungs(config)
    _check_sizes(config)
    _check_class_weights(config)
    _check_network(config)
    return config


def _data(values: Mapping[str, Any]) -> DataConfig:
    """Of this project's datasets it is known what they read; other ones say so when they are
    made.
    """
    data = DataConfig.parse(values, "data.")
    dataset = DATASETS.get(data.target)
    if dataset is not None:
        read = DataConfig.known().keys() - (set() if dataset.downloads else {"root", "download"})
        check_read(values, read, "data.", f"{data.target} does not read")
    if data.fold >= (data.folds or 1):
        raise UserError(
            f"data.fold < {data.folds or 1} must hold (data.folds), got {data.fold}; try "
            f"data.folds={max(5, data.fold + 1)}"
        )
    return data


def _model(values: Mapping[str, Any]) -> ModelConfig:
    kind = MODELS.get(str(values.get("_target_")), ModelConfig)
    model = kind.parse(values, "model.")
    if isinstance(model, MLPConfig):
        check_read(values, kind.known(), "model.", "MLP does not read")
        if len(model.hidden) > LAYERS:
            raise UserError(
                f"model.hidden must have at most {LAYERS} layers, got {len(model.hidden)}; try "
                "model.hidden=[300,100]"
            )
    return model


def _optimizer(values: Mapping[str, Any]) -> OptimizerConfig:
    kind = OPTIMIZERS.get(str(values.get("_target_")), OptimizerConfig)
    optimizer = kind.parse(values, "optimizer.")
    if optimizer.nesterov and not optimizer.momentum:
        raise UserError(
            "optimizer.nesterov=true needs optimizer.momentum above 0, got 0; try "
            "optimizer.momentum=0.9"
        )
    return optimizer


def _schedule(values: Mapping[str, Any]) -> Schedule:
    name = values.get("name")
    SCHEDULE_NAME.check("schedule.name", name)
    kind = SCHEDULES[str(name)]
    for key in kind.known():
        if key not in values:
            raise UserError(
                f"schedule.name={name} needs schedule.{key}, got none; try schedule={name}"
            )
    schedule = kind.parse(values, "schedule.")
    check_read(values, ("name", *kind.known()), "schedule.", f"schedule={name} does not read")
    return schedule


def _loss(values: Mapping[str, Any]) -> LossConfig:
    kind = LOSSES.get(str(values.get("_target_")), LossConfig)
    loss = kind.parse(values, "loss.")
    if isinstance(loss, CrossEntropyConfig):
        check_read(values, kind.known(), "loss.", "CrossEntropyLoss does not read")
    return loss


def _metrics(values: Mapping[str, Any]) -> dict[str, Component]:
    for name in values:
        if name in ("loss", "acc") or not str(name).isidentifier():
            raise UserError(
                f"metrics.{name} must be another name of letters, digits and _ (loss and acc are "
                f"measured in any case); try metrics=f1"
            )
    return {
        name: Component.parse(_part("metrics", name, part), f"metrics.{name}.")
        for name, part in values.items()
    }


def _engine(values: Mapping[str, Any]) -> EngineConfig:
    check_read(values, EngineConfig.known(), "engine.")
    return EngineConfig.parse(values, "engine.")


def _halving(values: Mapping[str, Any]) -> HalvingConfig:
    halving = HalvingConfig.parse(values, "halving.")
    names = HalvingConfig.known() if halving.name == "successive" else ["name"]
    check_read(values, names, "halving.", f"halving={halving.name} does not read")
    return halving


def _loggers(values: Mapping[str, Any]) -> dict[str, Component]:
    return {
        name: Component.parse(_part("logger", name, part), f"logger.{name}.")
        for name, part in values.items()
    }


def _callbacks(values: Mapping[str, Any]) -> dict[str, Component]:
    callbacks = {}
    for name, part in values.items():
        target: str = _part("callbacks", name, part)["_target_"]
        kind: type[Component] = Component
        if target.startswith("lightning."):
            kind = EarlyStoppingConfig if target.endswith(".EarlyStopping") else CallbackConfig
        callbacks[name] = kind.parse(part, f"callbacks.{name}.")
    return callbacks


def _part(group: str, name: str, part: Any) -> Mapping[str, Any]:
    if not isinstance(part, dict) or not isinstance(part.get("_target_"), str):
        raise UserError(
            f"{group}.{name} must have a _target_, the name of a class, got {quoted(part)}; "
            f"try ~{group}.{name}"
        )
    return part


def _check_warmup(schedule: Schedule, trainer: TrainerConfig) -> None:
    if isinstance(schedule, WarmedUp) and schedule.warmup_epochs >= trainer.max_epochs:
        raise UserError(
            f"schedule.warmup_epochs < {trainer.max_epochs} must hold (trainer.max_epochs), got "
            f"{schedule.warmup_epochs}; try schedule.warmup_epochs=0.5"
        )


def _check_rates(config: TrialConfig) -> None:
    """The learning rate, with all that it is multiplied with, must be a number in float32."""
    rate = config.schedule.largest(config.optimizer.lr or 0, config.trainer.max_epochs)
    largest = rate + _log10_of_largest_factor(config.optimizer)
    if largest > math.log10(FLOAT32.high):
        raise UserError(
            "the learning rate, with what multiplies it (schedule.*, optimizer.weight_decay, 1 / "
            "(1 - betas[0])), must be at most 3.4e38, all that float32 holds, got "
            f"1e{largest:.0f}; try optimizer.lr=0.01 schedule=constant"
        )


def _log10_of_largest_factor(optimizer: OptimizerConfig) -> float:
    """What an optimizer multiplies the learning rate by at most, in one step."""
    betas = optimizer.betas if isinstance(optimizer, AdamConfig) else None
    average = 1 - betas[0] if betas is not None else 1.0
    return max(-math.log10(average), math.log10(max(1.0, optimizer.weight_decay or 0)))


def _check_validation(config: TrialConfig) -> None:
    """What is watched must be measured: the objective once at least."""
    objective, trainer = config.objective, config.trainer
    for key, watched in config.watched.items():
        if watched.startswith("val/") and not trainer.limit_val_batches:
            raise UserError(
                f"{key}={watched} needs validation, got trainer.limit_val_batches=0; try "
                f"{key}=train/loss"
            )
    every, epochs = trainer.check_val_every_n_epoch, trainer.max_epochs
    if objective.startswith("val/") and every > epochs and not trainer.fast_dev_run:
        raise UserError(
            f"trainer.check_val_every_n_epoch <= {epochs} must hold (trainer.max_epochs) for "
            f"objective={objective}, got {every}; try trainer.check_val_every_n_epoch=1"
        )


def _check_trainer(trainer: TrainerConfig) -> None:
    for key, instead in OURS.items():
        if key in trainer.values:
            raise UserError(
                f"trainer.{key} is for trialstack to say, got {quoted(trainer.values[key])}; "
                f"{instead}"
            )
    if not trainer.limit_train_batches:
        raise UserError(
            "trainer.limit_train_batches must be above 0, got 0: nothing would be trained; try 1.0"
        )
    if trainer.min_epochs is not None and trainer.min_epochs > trainer.max_epochs:
        raise UserError(
            f"trainer.min_epochs <= {trainer.max_epochs} must hold (trainer.max_epochs), got "
            f"{trainer.min_epochs}; leave it out"
        )


def _check_rungs(config: TrialConfig) -> None:
    """At a rung there must be an objective."""
    rungs = config.halving.rungs_before(config.trainer.max_epochs)
    every = config.trainer.check_val_every_n_epoch
    if rungs and config.objective.startswith("val/") and every > rungs[0]:
        raise UserError(
            f"trainer.check_val_every_n_epoch <= {rungs[0]} must hold (the first rung of halving) "
            f"for objective={config.objective}, got {every}; try halving.min_epochs={every}"
        )


def _check_sizes(config: TrialConfig) -> None:
    """The sizes of this project's datasets are known; other ones are checked when they are read."""
    data = config.data
    dataset = DATASETS.get(data.target)
    if dataset is None:
        return
    check_folds(dataset.name, dataset.samples, data.folds)
    val_size = len(validating(dataset.samples, data.val_size, data.folds, data.fold))
    check_sizes(dataset.name, dataset.samples, val_size, data.batch_size)
    check_limits(
        config.trainer,
        -(-(dataset.samples - val_size) // data.batch_size),
        -(-val_size // EVALUATION_BATCH),
    )


def _check_class_weights(config: TrialConfig) -> None:
    dataset = DATASETS.get(config.data.target)
    if dataset is None or not isinstance(config.loss, CrossEntropyConfig):
        return
    weights = config.loss.class_weights
    if isinstance(weights, list):
        check_class_weights(weights, dataset.name, dataset.classes)


def _check_network(config: TrialConfig) -> None:
    """An MLP must fit into this machine: on any device, its first weights and its checkpoints are
    in there.
    """
    model, dataset = config.model, DATASETS.get(config.data.target)
    if not isinstance(model, MLPConfig):
        return
    inputs, classes = (dataset.pixels, dataset.classes) if dataset else (1, 1)
    widths = [inputs, *model.hidden, classes]
    parameters = sum(before * after + after for before, after in pairwise(widths))
    needed, there = 2 * 4 * parameters, psutil.virtual_memory().total
    if needed > there:
        raise UserError(
            f"model.hidden={quoted(model.hidden)} has {parameters:.3g} parameters: they and a "
            f"checkpoint take {needed / 2**30:.3g} GiB, this machine has {there / 2**30:.3g}; try "
            "model.hidden=[300,100]"
        )
