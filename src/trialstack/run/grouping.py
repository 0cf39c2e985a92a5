"""Which trials train together, and why some cannot: decided before anything is trained."""

import inspect
import json
import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from lightning.pytorch import LightningModule, Trainer, callbacks
from lightning.pytorch.callbacks import Callback, LearningRateMonitor, ProgressBar
from lightning.pytorch.loggers import Logger

from trialstack.core.build import build_all, check_all
from trialstack.core.called import called
from trialstack.core.errors import UserError
from trialstack.core.groups import (
    Component,
    DataConfig,
    LossConfig,
    MLPConfig,
    ModelConfig,
    OptimizerConfig,
    TrainerConfig,
)
from trialstack.core.identity import flat
from trialstack.core.key import Key
from trialstack.core.origins import imported
from trialstack.core.schedule import Schedule
from trialstack.core.schedules.plateau import Plateau
from trialstack.core.schema import TrialConfig, may_vary
from trialstack.data.datamodule import ImageDataModule
from trialstack.engine.losses import CrossEntropyLoss
from trialstack.engine.models import MLP
from trialstack.engine.stacked_optimizers import OPTIMIZERS, complete_settings
from trialstack.run.run import Run

log = logging.getLogger(__name__)

_STEP_HOOKS = (
    "on_before_zero_grad", "on_before_backward", "on_after_backward", "on_before_optimizer_step",
    "on_train_batch_start", "on_train_batch_end",
)  # fmt: skip
_WATCHING = (ProgressBar, callbacks.Timer, callbacks.ModelCheckpoint, callbacks.DeviceStatsMonitor)
"""Callbacks that look at batches and change nothing."""

_OF_TRIALS = (
    callbacks.EarlyStopping,
    LearningRateMonitor,
    callbacks.ModelCheckpoint,
    callbacks.Timer,
)
"""Callbacks that a stack understands: other ones, also of classes derived from these, know of one
trial alone.
"""

_CHANGING = (
    callbacks.BaseFinetuning,
    callbacks.GradientAccumulationScheduler,
    callbacks.ModelPruning,
    callbacks.StochasticWeightAveraging,
)
"""Callbacks that change how a module trains."""

_FINDERS = {
    callbacks.LearningRateFinder: "optimizer.lr=0.1,0.03,0.01",
    callbacks.BatchSizeFinder: "data.batch_size=32,64",
}
"""Callbacks that change a trial's config, each with the sweep that says what it would find."""


PADDED_WORK = 1.25
"""What the networks of a stack on a CPU cost at most, against their work without padding: where
more is padded, stacks of their own are faster.
"""

PIXELS, CLASSES = 784, 10
"""Of the images that the work of a network is estimated with, before they are read."""


class Planned(NamedTuple):
    """Trials that train together.

    Attributes:
        members: their positions.
        eager: why a trial trains on the eager engine, and so by itself; None on the stacked one.
        alone: why a trial trains by itself on the stacked engine; None if it trains with others.
        shared: what their configs have in common.
        padded: the widths that all are padded to; None if they are the same.
    """

    members: list[int]
    eager: str | None
    alone: str | None
    shared: dict[str, Any]
    padded: list[int] | None = None

    @property
    def one_by_one(self) -> str | None:
        """How, and why, such trials train one by one; None if they train together."""
        if self.eager is not None:
            return f"on the eager engine, one by one: {self.eager}"
        return None if self.alone is None else f"one by one: {self.alone}"


def plan(configs: Sequence[TrialConfig], apart: Sequence[Any] = ()) -> list[Planned]:
    """Return which trials train together, in the order of their first ones.

    Args:
        configs: of the trials.
        apart: of each trial, what else those that train together must have in common.

    Raises:
        UserError: `engine=stacked` cannot train a trial.
    """
    planned: dict[str, Planned] = {}
    reasons: dict[str, tuple[str | None, str | None]] = {}
    for position, config in enumerate(configs):
        check_all("logger", config.values["logger"], Logger)
        shared = _shared_keys(config) | {"apart": apart[position] if apart else None}
        key = json.dumps([shared, config.engine.name], sort_keys=True)
        if key not in reasons:
            made = build_all("callbacks", config.values["callbacks"], Callback)
            _check_no_finder(made)
            eager = _why_eager(config, made)
            reasons[key] = eager, next(_alone_reasons(made), None) if eager is None else None
        eager, alone = reasons[key]
        if eager is not None or alone is not None:
            key = f"{position} {key}"
        planned.setdefault(key, Planned([], eager, alone, shared)).members.append(position)
    parts = [part for whole in planned.values() for part in _by_widths(whole, configs)]
    return sorted(parts, key=lambda part: part.members[0])


def _by_widths(planned: Planned, configs: Sequence[TrialConfig]) -> list[Planned]:
    """Divide trials so that what is padded costs less than what it saves; the largest networks
    first.
    """
    by_widths: dict[tuple[int, ...], list[int]] = {}
    for position in planned.members:
        by_widths.setdefault(_padded(configs[position]), []).append(position)
    if len(by_widths) == 1:
        return [planned]
    engine, trainer = configs[planned.members[0]].engine, configs[planned.members[0]].trainer
    on_cpu = _device_type(trainer.accelerator) == "cpu"
    most = PADDED_WORK if engine.pad == "auto" and on_cpu else math.inf
    stacks: list[dict[tuple[int, ...], int]] = []
    for widths in sorted(by_widths, key=network_work, reverse=True):
        count = {widths: len(by_widths[widths])}
        joined = next((stack for stack in stacks if _padded_work(stack | count) <= most), None)
        if joined is None:
            stacks.append(count)
        else:
            joined |= count
    return [
        planned._replace(
            members=sorted(position for widths in stack for position in by_widths[widths]),
            shared=planned.shared | {"model.hidden": sorted(stack)},
            padded=_widest(stack) if len(stack) > 1 else None,
        )
        for stack in stacks
    ]


def _padded(config: TrialConfig) -> tuple[int, ...]:
    """Widths in which trials of a stack may differ."""
    return tuple(config.model.hidden) if isinstance(config.model, MLPConfig) else ()


def network_work(widths: Sequence[int]) -> int:
    """Multiplications of a sample by the matrices of a network, but for a factor."""
    return sum(inputs * outputs for inputs, outputs in pairwise((PIXELS, *widths, CLASSES)))


def _padded_work(counts: Mapping[tuple[int, ...], int]) -> float:
    """The work of networks that are padded to the same widths, against that of each by itself."""
    own = sum(count * network_work(widths) for widths, count in counts.items())
    return sum(counts.values()) * network_work(_widest(counts)) / own


def _widest(networks: Iterable[Sequence[int]]) -> list[int]:
    return [max(of_layer) for of_layer in zip(*networks, strict=True)]


def divided(members: Sequence[Any], most: int) -> list[list[Any]]:
    """Return members in order, in as few parts as have at most `most` of them, the first ones the
    larger.
    """
    parts = -(-len(members) // most)
    ends = [-(-len(members) * part // parts) for part in range(parts + 1)]
    return [list(members[start:end]) for start, end in pairwise(ends)]


def _check_no_finder(made: Sequence[Callback]) -> None:
    for callback in made:
        for finder, sweep in _FINDERS.items():
            if isinstance(callback, finder):
                raise UserError(
                    f"callbacks must leave a trial's config as it is, got {finder.__name__}; try a "
                    f"sweep in its place: {called('train')} -m {sweep}"
                )


def _why_eager(config: TrialConfig, callbacks: Sequence[Callback]) -> str | None:
    """Why a trial trains on the eager engine; None if it does not."""
    if config.engine.name == "eager":
        return "engine=eager"
    reason = next(_reasons(config, callbacks), None)
    if reason is not None and config.engine.name == "stacked":
        raise UserError(
            f"engine=stacked cannot train with {reason}; leave out engine=stacked, or use "
            "engine=eager"
        )
    return reason


def stacks(runs: Sequence[Run]) -> list[tuple[list[Run], bool]]:
    """Return runs that train together, and whether they train as a stack: those of a plan that have
    come as far.

    Raises:
        UserError: `engine=stacked` cannot train a run, or a run cannot go on with the engine that
            it began with.
    """
    together: dict[object, list[Run]] = {}
    stacked: dict[object, bool] = {}
    for planned in plan([run.config for run in runs]):
        for run in (runs[member] for member in planned.members):
            reason, state = _why_eager_still(run, planned.eager), run.state
            come_to = (state.epochs, state.stack, state.stack is None and state.is_trained)
            # a stack that goes on stays as it is
            first = planned.members[0] if state.stack is None else None
            key = (first, run.folder if reason else come_to)
            together.setdefault(key, []).append(run)
            stacked[key] = reason is None
    for members in together.values():
        members.sort(key=lambda run: run.state.position)
    return [(members, stacked[key]) for key, members in together.items()]


def _why_eager_still(run: Run, reason: str | None) -> str | None:
    """The same with regard to the engine that the run began with."""
    began = None if run.state.checkpoint is None else run.state.checkpoint.get("engine", "eager")
    if began == "stacked" and reason not in (None, "engine=eager"):
        raise UserError(
            f"this run began on the stacked engine, which cannot train with {reason}; leave it out"
        )
    if began == "eager" and reason is None:
        reason = "a checkpoint of the eager engine"
    if reason not in (None, "engine=eager"):
        log.info("engine: eager, the stacked one cannot train with %s", reason)
    return reason


def _reasons(config: TrialConfig, callbacks: Sequence[Callback]) -> Iterator[str]:
    """What the stacked engine cannot train with."""
    yield from _model_reasons(config.model)
    yield from _optimizer_reasons(config.optimizer)
    yield from _loss_reasons(config.loss)
    yield from _schedule_reasons(config.schedule)
    yield from _data_reasons(config.data)
    yield from _trainer_reasons(config.trainer)
    for callback in callbacks:
        yield from _callback_reasons(callback)


def _model_reasons(model: ModelConfig) -> Iterator[str]:
    cls = _class(model)
    if cls is not None and issubclass(cls, LightningModule):
        yield f"model._target_={model.target}, a LightningModule with training steps of its own"
    elif cls is not MLP:
        yield f"model._target_={model.target}, only with trialstack.models.MLP"


def _optimizer_reasons(optimizer: OptimizerConfig) -> Iterator[str]:
    kind = _class(optimizer)
    if kind is None:
        return
    if kind not in OPTIMIZERS:
        names = ", ".join(known.__name__ for known in OPTIMIZERS)
        yield f"optimizer._target_={optimizer.target}, only with {names}"
        return
    known, defaults = (
        OPTIMIZERS[kind].takes._fields,
        complete_settings({"_target_": optimizer.target}),
    )
    for name, value in complete_settings(optimizer.values).items():
        if name not in known and value != defaults[name]:
            yield f"optimizer.{name}={value}"


def _loss_reasons(loss: LossConfig) -> Iterator[str]:
    if _class(loss) is not CrossEntropyLoss:
        yield f"loss._target_={loss.target}, only with trialstack.losses.CrossEntropyLoss"


def _schedule_reasons(schedule: Schedule) -> Iterator[str]:
    if isinstance(schedule, Plateau):
        yield f"schedule=plateau, whose rates follow {schedule.monitor}"


def _data_reasons(data: DataConfig) -> Iterator[str]:
    if data.augment:
        yield "data.augment, which transforms images one by one"
    kind = _class(data)
    own = getattr(kind, "train_dataloader", ImageDataModule.train_dataloader)
    if own is not ImageDataModule.train_dataloader:
        yield f"data._target_={data.target}, which has its own train_dataloader"


def _trainer_reasons(trainer: TrainerConfig) -> Iterator[str]:
    if trainer.strategy not in ("auto", "single_device"):
        yield f"trainer.strategy={trainer.strategy}"
    if _device_count(trainer.devices, trainer.accelerator) > 1:
        yield f"trainer.devices={trainer.devices}, only with one device"
    if _device_type(trainer.accelerator) not in ("cpu", "cuda"):
        yield f"trainer.accelerator={trainer.accelerator}, only with the CPU and CUDA"
    if str(trainer.precision) not in ("32", "32-true", "64", "64-true"):
        yield f"trainer.precision={trainer.precision}, only with 32-true and 64-true"
    defaults = inspect.signature(Trainer.__init__).parameters
    for name, value in trainer.values.items():
        default = defaults[name].default if name in defaults else None
        if (
            value not in (None, False, default)
            and not TrainerConfig.known().get(name, Key()).in_stack
        ):
            yield f"trainer.{name}={value}"


def _device_type(accelerator: str) -> str:
    if accelerator == "cpu":
        return "cpu"
    current = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if accelerator in ("auto", "gpu"):
        return "cpu" if current is None else current.type
    return accelerator


def _device_count(devices: Any, accelerator: str) -> int:
    if isinstance(devices, list):
        return len(devices)
    if devices in ("auto", -1):
        return torch.cuda.device_count() if _device_type(accelerator) == "cuda" else 1
    return int(devices)


def _callback_reasons(callback: Callback) -> Iterator[str]:
    name = f"the callback {type(callback).__name__}"
    if isinstance(callback, _CHANGING):
        yield f"{name}, which changes how a module trains"
    if isinstance(callback, _WATCHING) or (
        type(callback) is LearningRateMonitor and _is_per_epoch(callback)
    ):
        return
    for hook in _STEP_HOOKS:
        if getattr(type(callback), hook) is not getattr(Callback, hook) or hook in vars(callback):
            yield f"{name}, which acts on every optimizer step ({hook})"


def _is_per_epoch(monitor: LearningRateMonitor) -> bool:
    """Whether the learning rate that every epoch logs is what is asked for."""
    return (
        monitor.logging_interval != "step"
        and not monitor.log_momentum
        and not monitor.log_weight_decay
    )


def _alone_reasons(callbacks: Sequence[Callback]) -> Iterator[str]:
    """What cannot train with other trials."""
    for callback in callbacks:
        if not isinstance(callback, ProgressBar) and type(callback) not in _OF_TRIALS:
            yield f"the callback {type(callback).__name__}, which knows of one trial alone"


def _class(config: Component) -> type[Any] | None:
    """The class of a `_target_`; None if there is none, which is an error where it is built."""
    try:
        found = imported(config.target)
    except (Exception, SystemExit):
        return None
    return found if isinstance(found, type) else None


def _shared_keys(config: TrialConfig) -> dict[str, Any]:
    """What the trials of a stack have in common, by dotted key."""
    cls = _class(config.optimizer)
    varying = OPTIMIZERS[cls].varying if cls in OPTIMIZERS else frozenset()
    shared = {
        key: value
        for key, value in flat(config.values).items()
        if not may_vary(key) and key not in {f"optimizer.{name}" for name in varying}
    }
    if isinstance(config.model, MLPConfig) and config.engine.pad is not False:
        shared["model.hidden"] = len(config.model.hidden)
    if config.data.normalize != "unit":  # pixels depend on it
        shared["data.fold"] = config.data.fold
    return shared | {
        "engine.steps_per_execution": config.engine.steps_per_execution,
        "engine.pad": config.engine.pad,
    }
