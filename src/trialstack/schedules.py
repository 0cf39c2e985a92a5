"""Learning rates over a run, with torch's schedulers, one step per optimizer step."""

from collections.abc import Mapping
from typing import Any

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
        return OneCycleLR(
            optimizer,
            max_lr=config["max_lr"],
            total_steps=total_steps,
            pct_start=config["pct_start"],
            div_factor=config["div_factor"],
            final_div_factor=config["final_div_factor"],
            cycle_momentum=False,
        )
    warmup_steps = min(round(config["warmup_epochs"] * epoch_steps), total_steps - 1)
    warmup = LinearLR(optimizer, 1 / (warmup_steps + 1), 1.0, warmup_steps) if warmup_steps else None
    main: LRScheduler | None = None
    if name == "cosine":
        main = CosineAnnealingLR(optimizer, total_steps - warmup_steps, config["eta_min"])
    elif name == "step":
        main = StepLR(optimizer, max(1, round(config["step_size"] * epoch_steps)), config["gamma"])
    if warmup is None or main is None:
        return warmup or main
    return SequentialLR(optimizer, [warmup, main], milestones=[warmup_steps])
