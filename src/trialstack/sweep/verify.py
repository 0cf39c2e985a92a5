"""Verification: a trial trained again by itself, against what it gave in its stack.

Both must agree up to rounding, which training multiplies, by how much depends on the trial. So the
trial is trained by itself once more with a learning rate that differs in its last bit, and in
float32 once more in float64: the larger of what that changes is what rounding may change. A last
bit alone is often lost where an update is added, and then first shows epochs later.
"""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from trialstack.core import layout
from trialstack.core.errors import Interrupted, UserError
from trialstack.core.parse import parse, resolved
from trialstack.run.checkpoints import read_checkpoint
from trialstack.run.folder import read_config
from trialstack.run.metrics_csv import metrics, read_rows
from trialstack.run.result import Result
from trialstack.run.status import Status
from trialstack.run.train import train
from trialstack.run.trial import Trial

SLACK = 5
"""How many times the effect of rounding a trial in its stack may differ from itself alone."""

FLOORS = {"32": 1e-6, "64": 1e-9}
"""What weights may differ in any case, relative to their norm."""

SAMPLES = 2.5
"""Validation samples that may be classified otherwise in any case: two, with a margin for decimals.
"""


DECIDED = 0.5
"""Change of weights by rounding, relative to their norm, that leaves nothing to compare."""


@dataclass(frozen=True)
class Comparison:
    """Something of a trial in its stack against the trial alone.

    Attributes:
        name: what is compared.
        difference: between both.
        bound: on it.
    """

    name: str
    difference: float
    bound: float

    @property
    def holds(self) -> bool:
        return self.difference <= self.bound


@dataclass(frozen=True)
class Verification:
    """A trial in its stack against itself alone.

    Attributes:
        stack_size: trials that trained together.
        statuses: in the stack and alone.
        epochs: in the stack and alone.
        decided_by_rounding: rounded otherwise the trial ends elsewhere, or comes to weights that
            have little in common with its own.
        weights: after the last epoch, the norm of the difference relative to the norm.
        metrics: of the epoch nearest to its bound, the largest difference of a loss or an accuracy
            up to there.
    """

    stack_size: int
    statuses: tuple[str, str]
    epochs: tuple[int, int]
    decided_by_rounding: bool
    weights: Comparison
    metrics: Comparison

    @property
    def holds(self) -> bool:
        same_end = len(set(self.statuses)) == len(set(self.epochs)) == 1
        return same_end and self.weights.holds and self.metrics.holds


def verify(folder: Path, root: str | None = None) -> Verification:
    """Train the trial in `folder` again by itself, in a temporary folder, and compare.

    Args:
        folder: the run folder.
        root: where the dataset lies now; None for where it lay.

    Raises:
        UserError: it is no run folder, or the run has not ended, nor was stopped at a rung.
    """
    config, result = read_config(folder), Result.read(folder)
    if result is None or not (result.status.is_final or result.status == Status.STOPPED):
        status = "no result.json" if result is None else result.status
        raise UserError(
            f"a trial that has ended is needed, got {os.path.relpath(folder)} ({status}); train it "
            "first"
        )
    if root is not None:
        config.data.root = root
    precision = "64" if str(config.trainer.precision).startswith("64") else "32"
    with TemporaryDirectory() as temporary:
        alone = Path(temporary, "alone")
        until = result.epochs if result.status == Status.STOPPED else None
        status = _train_alone(config, alone, until).status
        weights, metrics = _weights_differ(folder, alone), _metrics_differ(folder, alone)
        epochs = _epochs(folder), _epochs(alone)
        rounding, roundings, decided_by_rounding = 0.0, [0.0] * len(metrics), False
        if weights or any(metrics):
            for name, other_config in _rounded_otherwise(config, precision).items():
                other = Path(temporary, name)
                _train_alone(other_config, other, until)
                rounding = max(rounding, _weights_differ(alone, other))
                roundings = list(map(max, roundings, _metrics_differ(alone, other)))
                decided_by_rounding |= epochs[1] != _epochs(other) or rounding > DECIDED
    compared = "losses and accuracies"
    by_epoch = [
        Comparison(
            f"{compared} up to epoch {epoch}",
            change,
            max(SLACK * effect, SAMPLES / config.data.val_size),
        )
        for epoch, (change, effect) in enumerate(zip(metrics, roundings, strict=False), 1)
    ]
    nothing = Comparison(compared, 0.0, 0.0)
    return Verification(
        result.stack_size,
        (result.status, status),
        epochs,
        decided_by_rounding,
        Comparison("weights", weights, max(SLACK * rounding, FLOORS[precision])),
        max(reversed(by_epoch), key=lambda epoch: epoch.difference / epoch.bound, default=nothing),
    )


def _rounded_otherwise(config: DictConfig, precision: str) -> dict[str, DictConfig]:
    """By name, configs of the same trial up to rounding."""
    nudged = config.copy()
    nudged.optimizer.lr = _next(config.optimizer.lr, precision)
    if precision == "64":
        return {"nudged": nudged}
    in_float64 = config.copy()
    in_float64.trainer.precision = "64-true"
    return {"nudged": nudged, "in_float64": in_float64}


def _train_alone(config: DictConfig, folder: Path, until: int | None) -> Result:
    config = config.copy()
    config.folder, config.logger, config.test, config.resume = str(folder), {}, False, None
    parsed = parse(resolved(config))
    folder.mkdir()
    try:
        [result] = train([Trial(parsed, folder, until=until)])
    except Interrupted:
        raise Interrupted("the same command starts anew") from None
    return result


def _next(rate: float, precision: str) -> float:
    """The next larger number in a precision."""
    kind = np.float64 if precision == "64" else np.float32
    return float(np.nextafter(kind(rate), kind(math.inf)))


def _weights_differ(folder: Path, other: Path) -> float:
    """The norm of the difference of the last weights, relative to their norm; 0 if there are
    none.
    """
    file, other_file = (there / layout.LAST for there in (folder, other))
    if not file.exists() and not other_file.exists():
        return 0.0
    weights, others = (
        _flat(read_checkpoint(checkpoint)["state_dict"]) for checkpoint in (file, other_file)
    )
    return float((weights - others).norm() / weights.norm())


def _epochs(folder: Path) -> int:
    return len(read_rows(folder / layout.METRICS))


def _flat(state: Mapping[str, Tensor]) -> Tensor:
    return torch.cat([value.double().flatten() for value in state.values()])


def _metrics_differ(folder: Path, other: Path) -> list[float]:
    """By epoch that both have, the largest difference of a loss or an accuracy up to there."""
    rows, other_rows = (read_rows(there / layout.METRICS) for there in (folder, other))
    changes = [
        max(
            abs(row.get(name, math.inf) - others.get(name, math.inf))
            for name in metrics([row, others])
        )
        for row, others in zip(rows, other_rows, strict=False)
    ]
    return list(accumulate(changes, max))
