"""Learning rates against their closed forms and torch's schedulers."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    ExponentialLR,
    LinearLR,
    LRScheduler,
    OneCycleLR,
    PolynomialLR,
    SequentialLR,
    StepLR,
)

from trialstack.core.schedule import Length, OfSteps
from trialstack.core.schedules import parse_schedule

STEPS, EPOCH, BASE = 40, 10, 0.1


def rates(name: str, **settings: Any) -> list[float]:
    """Return the rate of every step of a run of 4 epochs of 10 steps."""
    numbers_K = np.arange(STEPS, dtype=np.float64)
    kind = parse_schedule({"name": name, **settings})
    assert isinstance(kind, OfSteps)
    return [float(rate) for rate in kind.rates(numbers_K, BASE, Length(STEPS, EPOCH))]


def test_constant_is_the_optimizers_rate() -> None:
    assert rates("constant", warmup_epochs=0) == [BASE] * STEPS


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("constant", {}),
        ("cosine", {"eta_min": 0.0}),
        ("step", {"step_size": 5, "gamma": 0.1}),
        ("exponential", {"gamma": 0.5}),
        ("polynomial", {"power": 2.0}),
    ],
)
def test_warm_up_rises_linearly_to_the_optimizers_rate(
    name: str, settings: dict[str, float]
) -> None:
    seen = rates(name, warmup_epochs=0.4, **settings)
    assert seen[:5] == pytest.approx([BASE * k / 5 for k in (1, 2, 3, 4, 5)])


def test_cosine_falls_from_the_base_rate_to_eta_min() -> None:
    seen = rates("cosine", eta_min=0.01, warmup_epochs=0)
    expected = [
        0.01 + (BASE - 0.01) * (1 + math.cos(math.pi * step / STEPS)) / 2 for step in range(STEPS)
    ]
    assert seen == pytest.approx(expected)


def test_cosine_after_a_warm_up_takes_the_steps_that_are_left() -> None:
    seen = rates("cosine", eta_min=0.0, warmup_epochs=1)
    expected = [BASE * (1 + math.cos(math.pi * step / 30)) / 2 for step in range(30)]
    assert seen[10:] == pytest.approx(expected)


def test_step_multiplies_by_gamma_every_step_size_epochs() -> None:
    seen = rates("step", step_size=2, gamma=0.5, warmup_epochs=0)
    assert seen == pytest.approx([BASE] * 20 + [BASE / 2] * 20)


def test_exponential_multiplies_by_gamma_an_epoch() -> None:
    seen = rates("exponential", gamma=0.5, warmup_epochs=1)
    assert seen[10::10] == pytest.approx([BASE, BASE / 2, BASE / 4])


def test_polynomial_is_a_power_of_what_is_left_after_the_warm_up() -> None:
    seen = rates("polynomial", power=2.0, warmup_epochs=1)
    assert seen[10:] == pytest.approx([BASE * (1 - step / 30) ** 2 for step in range(30)])


def test_onecycle_peaks_after_pct_start_of_the_run() -> None:
    seen = rates("onecycle", max_lr=BASE, pct_start=0.3, div_factor=25.0, final_div_factor=1e4)
    assert seen[0] == pytest.approx(BASE / 25)
    assert seen[round(0.3 * STEPS) - 1] == pytest.approx(BASE)
    assert seen[-1] == pytest.approx(BASE / 25 / 1e4)


def test_onecycle_can_rise_for_one_step_only() -> None:
    seen = rates(
        "onecycle", max_lr=BASE, pct_start=1 / STEPS, div_factor=25.0, final_div_factor=1e4
    )
    assert seen[0] == pytest.approx(BASE / 25)
    assert seen[-1] == pytest.approx(BASE / 25 / 1e4)


def by_torch(optimizer: torch.optim.Optimizer, group: dict[str, Any]) -> LRScheduler | None:
    """Return torch's scheduler for a `schedule` group; None for a constant rate."""
    if group["name"] == "onecycle":
        settings = {key: value for key, value in group.items() if key != "name"}
        return OneCycleLR(optimizer, total_steps=STEPS, cycle_momentum=False, **settings)
    warmup_steps = round(group["warmup_epochs"] * EPOCH)
    parts: list[LRScheduler] = []
    if warmup_steps:
        parts.append(LinearLR(optimizer, 1 / (warmup_steps + 1), 1.0, warmup_steps))
    if group["name"] == "cosine":
        parts.append(CosineAnnealingLR(optimizer, STEPS - warmup_steps, group["eta_min"]))
    elif group["name"] == "step":
        parts.append(StepLR(optimizer, group["step_size"] * EPOCH, group["gamma"]))
    elif group["name"] == "exponential":
        parts.append(ExponentialLR(optimizer, group["gamma"] ** (1 / EPOCH)))
    elif group["name"] == "polynomial":
        parts.append(PolynomialLR(optimizer, STEPS - warmup_steps, group["power"]))
    return (
        SequentialLR(optimizer, parts, [warmup_steps])
        if len(parts) == 2
        else next(iter(parts), None)
    )


GROUPS = [
    {"name": "constant", "warmup_epochs": 0},
    {"name": "constant", "warmup_epochs": 1.25},
    {"name": "cosine", "eta_min": 0.001, "warmup_epochs": 0},
    {"name": "cosine", "eta_min": 0.0, "warmup_epochs": 0.5},
    {"name": "step", "step_size": 2, "gamma": 0.3, "warmup_epochs": 0},
    {"name": "step", "step_size": 3, "gamma": 0.5, "warmup_epochs": 1},
    {"name": "exponential", "gamma": 0.7, "warmup_epochs": 0},
    {"name": "exponential", "gamma": 1.1, "warmup_epochs": 0.5},
    {"name": "polynomial", "power": 1.0, "warmup_epochs": 0},
    {"name": "polynomial", "power": 2.5, "warmup_epochs": 1.25},
    {
        "name": "onecycle",
        "max_lr": 0.3,
        "pct_start": 0.3,
        "div_factor": 25.0,
        "final_div_factor": 1e4,
    },
    {
        "name": "onecycle",
        "max_lr": 0.1,
        "pct_start": 0.05,
        "div_factor": 2.0,
        "final_div_factor": 10.0,
    },
]


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group["name"])
@pytest.mark.filterwarnings("ignore:The epoch parameter in")
def test_rates_are_those_of_torchs_schedulers(group: dict[str, Any]) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=BASE)
    scheduler = by_torch(optimizer, group)
    expected = []
    for _ in range(STEPS):
        expected.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
    settings = {key: value for key, value in group.items() if key != "name"}
    assert rates(group["name"], **settings) == pytest.approx(expected, rel=1e-9, abs=1e-15)
