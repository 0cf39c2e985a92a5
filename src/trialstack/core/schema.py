"""The config of a trial, typed, and what is known of each of its keys."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate

from trialstack.core.groups import (
    AdagradConfig,
    AdamConfig,
    CallbackConfig,
    Component,
    CrossEntropyConfig,
    DataConfig,
    EngineConfig,
    LossConfig,
    MLPConfig,
    ModelConfig,
    OptimizerConfig,
    RMSpropConfig,
    TrainerConfig,
)
from trialstack.core.halving import HalvingConfig
from trialstack.core.key import Group, Key, key
from trialstack.core.objective import METRIC
from trialstack.core.rule import Rule, flag, one_of, whole
from trialstack.core.schedule import Schedule
from trialstack.core.schedules import SCHEDULES
from trialstack.core.schedules.plateau import Plateau


@dataclass(frozen=True, kw_only=True)
class TrialConfig(Group):
    """The config of a trial, resolved and checked; `values` has all of it as plain values.

    Attributes:
        seed: of initial weights, order of samples, dropout and augmentation.
        objective: what the best epoch is best at, and a sweep optimises.
        test: whether the best epoch is measured on the test set.
        resume: the run folder that is continued; None for a new run.
        source: the run folder whose best weights a new run begins with; None for weights of `seed`.
        continues: the run goes on where `source` ended, with its config.
        sweep: name of the sweep.
        dry_run: whether the command only says what it would do.
        on_error: what a sweep does when a trial fails.
        retry: which final trials of a sweep are trained again.
        folder: where the trial writes.
    """

    seed: int = key(whole(0, "1", high=2**32 - 1), varies=True)
    objective: str = key(METRIC)
    test: bool = key(flag("true"), varies=True)
    resume: str | int | None = key(
        Rule("a run folder, or null", lambda x: x is None or isinstance(x, str | int), "null"),
        varies=True,
        learned=False,
    )
    source: str | int | None = key(
        Rule("a run folder, or null", lambda x: x is None or isinstance(x, str | int), "null"),
        default=None,
        name="from",
        varies=True,
    )
    continues: bool = key(flag("true"), default=False, name="continue", varies=True, learned=False)
    sweep: str | int | None = key(
        Rule(
            "a name without /",
            lambda x: x is None or (str(x) not in ("", ".", "..") and "/" not in str(x)),
            "lr",
        ),
        varies=True,
        learned=False,
    )
    dry_run: bool = key(flag("true"), varies=True, learned=False)
    on_error: str = key(one_of("continue", "stop"), varies=True, learned=False)
    retry: str | None = key(
        Rule("diverged or null", lambda x: x in (None, "diverged"), "diverged"),
        varies=True,
        learned=False,
    )
    folder: str = key(
        Rule("a folder", lambda x: isinstance(x, str), "${hydra:runtime.output_dir}"),
        varies=True,
        learned=False,
    )
    data: DataConfig = key(option="digits")
    model: ModelConfig = key(option="mlp300")
    optimizer: OptimizerConfig = key(option="sgd")
    schedule: Schedule = key(option="constant")
    loss: LossConfig = key(option="cross_entropy")
    metrics: Mapping[str, Component] = key(option="none")
    engine: EngineConfig = key(option="auto")
    trainer: TrainerConfig = key(option="auto")
    logger: Mapping[str, Component] = key(option="none", varies=True, learned=False)
    halving: HalvingConfig = key(option="none", varies=True, learned=False)
    callbacks: Mapping[str, Component] = key(option="none", inner={"progress": Key(learned=False)})

    @property
    def watched(self) -> dict[str, str]:
        """Metrics that something depends on, by the key that names them."""
        of_callbacks = {
            f"callbacks.{name}.monitor": callback.monitor
            for name, callback in self.callbacks.items()
            if isinstance(callback, CallbackConfig) and callback.monitor is not None
        }
        plateau = self.schedule if isinstance(self.schedule, Plateau) else None
        of_schedule = {} if plateau is None else {"schedule.monitor": plateau.monitor}
        return {"objective": self.objective, **of_callbacks, **of_schedule}

    @property
    def dropout(self) -> float:
        """Of an MLP; 0 of another network, which has its own."""
        return self.model.dropout if isinstance(self.model, MLPConfig) else 0.0


MODELS = {"trialstack.models.MLP": MLPConfig}
"""Models whose keys are known, by `model._target_`."""

SCHEDULE_NAME = one_of(*SCHEDULES)
"""Of `schedule.name`; a schedule's other keys are its own."""

OPTIMIZERS: dict[str, type[OptimizerConfig]] = {
    "torch.optim.Adagrad": AdagradConfig,
    "torch.optim.Adam": AdamConfig,
    "torch.optim.AdamW": AdamConfig,
    "torch.optim.RMSprop": RMSpropConfig,
}
"""Optimizers that have keys of their own, by `optimizer._target_`."""

LOSSES = {"trialstack.losses.CrossEntropyLoss": CrossEntropyConfig}
"""Losses whose keys are known, by `loss._target_`."""

GROUPS = {name: known for name, known in TrialConfig.known().items() if known.option is not None}
"""What is known of each config group, and so of all its keys."""


def _by_dotted_name() -> dict[str, Key]:
    classes: dict[str, tuple[type[Group], ...]] = {
        "data": (DataConfig,),
        "model": (ModelConfig, *MODELS.values()),
        "optimizer": (OptimizerConfig, *OPTIMIZERS.values()),
        "schedule": tuple(SCHEDULES.values()),
        "loss": (LossConfig, *LOSSES.values()),
        "engine": (EngineConfig,),
        "trainer": (TrainerConfig,),
        "halving": (HalvingConfig,),
    }
    return (
        TrialConfig.known()
        | {"schedule.name": Key(SCHEDULE_NAME)}
        | {
            f"{group}.{name}": known
            for group, kinds in classes.items()
            for kind in kinds
            for name, known in kind.known().items()
        }
        | {
            f"{group}.{name}": known
            for group, of_group in GROUPS.items()
            for name, known in of_group.inner.items()
        }
    )


KEYS = _by_dotted_name()
"""What is known of each key and group, by its dotted name."""


def may_vary(name: str) -> bool:
    """Tell whether trials of a stack may differ in a dotted key: it or what it is in says so."""
    return not _VARYING.isdisjoint(_with_groups(name))


def is_learned(name: str) -> bool:
    """Tell whether a dotted key says what a trial learns: neither it nor what it is in says
    otherwise.
    """
    return _ELSEWHERE.isdisjoint(_with_groups(name))


def _with_groups(name: str) -> Iterator[str]:
    """A dotted key and all that it is in."""
    return accumulate(name.split("."), "{}.{}".format)


_VARYING = {name for name, known in KEYS.items() if known.varies}
_ELSEWHERE = {name for name, known in KEYS.items() if not known.learned}
