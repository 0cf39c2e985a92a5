"""Learning rates over a run, one per optimizer step: torch's schedulers, and their closed form for stacks."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LinearLR,
    LRScheduler,
    OneCycleLR,
    SequentialLR,
    StepLR,
)


def build_schedule(
    config: Mapping[str, Any], optimizer: Optimizer, total_steps: int, epoch_steps: float
) -> LRScheduler | None:
    """Return the schedule of a run, or None for a constant learning rate.

    Args:
        config: a `schedule` group: `name` and its parameters; epochs are counted in `epoch_steps`.
        optimizer: whose learning rate is the base rate.
        total_steps: optimizer steps in the run.
        epoch_steps: optimizer steps in an epoch.
    """
    name = config["name"]
    if name == "onecycle":
        pct_start = config["pct_start"]
        return OneCycleLR(
            optimizer,
            max_lr=config["max_lr"],
            total_steps=total_steps,
            # torch divides by the steps in which the rate rises, less one
            pct_start=pct_start * (1 + 1e-9) if pct_start * total_steps == 1 else pct_start,
            div_factor=config["div_factor"],
            final_div_factor=config["final_div_factor"],
            cycle_momentum=False,
        )
    warmup_steps = _warmup_steps(config, total_steps, epoch_steps)
    warmup = LinearLR(optimizer, 1 / (warmup_steps + 1), 1.0, warmup_steps) if warmup_steps else None
    main: LRScheduler | None = None
    if name == "cosine":
        main = CosineAnnealingLR(optimizer, total_steps - warmup_steps, config["eta_min"])
    elif name == "step":
        main = StepLR(optimizer, _step_steps(config, epoch_steps), config["gamma"])
    if warmup is None or main is None:
        return warmup or main
    return SequentialLR(optimizer, [warmup, main], milestones=[warmup_steps])


def learning_rates(
    config: Mapping[str, Any], base: float, total_steps: int, epoch_steps: float, first: int, steps: int
) -> NDArray[np.float64]:
    """Return the rates [steps] of the optimizer steps from `first` (counted from 0) on, in closed form.

    They are those of `build_schedule` with an optimizer whose learning rate is `base`, to within rounding.
    """
    step = np.arange(first, first + steps, dtype=np.float64)
    if config["name"] == "onecycle":
        peak = config["max_lr"]
        start = peak / config["div_factor"]
        end = start / config["final_div_factor"]
        top, last = config["pct_start"] * total_steps - 1, total_steps - 1
        rising = _cosine(start, peak, step / (top or 1))
        return np.where(step <= top, rising, _cosine(peak, end, (step - top) / (last - top)))
    warmup_steps = _warmup_steps(config, total_steps, epoch_steps)
    warming = step < warmup_steps
    since = np.maximum(step - warmup_steps, 0)
    if config["name"] == "cosine":
        rates = _cosine(base, config["eta_min"], since / (total_steps - warmup_steps))
    elif config["name"] == "step":
        rates = base * config["gamma"] ** (since // _step_steps(config, epoch_steps))
    else:
        rates = np.full(steps, base, dtype=np.float64)
    return np.where(warming, base * (step + 1) / (warmup_steps + 1), rates)


def _cosine(start: float, end: float, part: NDArray[np.float64]) -> NDArray[np.float64]:
    """Half a cosine: `start` at part 0, `end` at part 1."""
    return end + (start - end) * (1 + np.cos(np.pi * part)) / 2


def _warmup_steps(config: Mapping[str, Any], total_steps: int, epoch_steps: float) -> int:
    steps: int = round(config["warmup_epochs"] * epoch_steps)
    return min(steps, total_steps - 1)


def _step_steps(config: Mapping[str, Any], epoch_steps: float) -> int:
    steps: int = round(config["step_size"] * epoch_steps)
    return max(1, steps)
