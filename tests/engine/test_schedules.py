"""Learning rates against their closed forms."""

import math
from typing import Any

import pytest
import torch

from trialstack.engine.schedules import build_schedule

STEPS, EPOCH, BASE = 40, 10, 0.1


def rates(name: str, **settings: Any) -> list[float]:
    """Return the rate of every step of a run of 4 epochs of 10 steps."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=BASE)
    schedule = build_schedule({"name": name, **settings}, optimizer, STEPS, EPOCH)
    seen = []
    for _ in range(STEPS):
        seen.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        if schedule is not None:
            schedule.step()
    return seen


def test_constant_is_the_optimizers_rate() -> None:
    assert rates("constant", warmup_epochs=0) == [BASE] * STEPS


@pytest.mark.parametrize(
    ("name", "settings"), [("constant", {}), ("cosine", {"eta_min": 0.0}), ("step", {"step_size": 5, "gamma": 0.1})]
)
def test_warm_up_rises_linearly_to_the_optimizers_rate(name: str, settings: dict[str, float]) -> None:
    seen = rates(name, warmup_epochs=0.4, **settings)
    assert seen[:5] == pytest.approx([BASE * k / 5 for k in (1, 2, 3, 4, 5)])


def test_cosine_falls_from_the_base_rate_to_eta_min() -> None:
    seen = rates("cosine", eta_min=0.01, warmup_epochs=0)
    expected = [0.01 + (BASE - 0.01) * (1 + math.cos(math.pi * step / STEPS)) / 2 for step in range(STEPS)]
    assert seen == pytest.approx(expected)


def test_cosine_after_a_warm_up_takes_the_steps_that_are_left() -> None:
    seen = rates("cosine", eta_min=0.0, warmup_epochs=1)
    expected = [BASE * (1 + math.cos(math.pi * step / 30)) / 2 for step in range(30)]
    assert seen[10:] == pytest.approx(expected)


def test_step_multiplies_by_gamma_every_step_size_epochs() -> None:
    seen = rates("step", step_size=2, gamma=0.5, warmup_epochs=0)
    assert seen == pytest.approx([BASE] * 20 + [BASE / 2] * 20)


def test_onecycle_peaks_after_pct_start_of_the_run() -> None:
    seen = rates("onecycle", max_lr=BASE, pct_start=0.3, div_factor=25.0, final_div_factor=1e4)
    assert seen[0] == pytest.approx(BASE / 25)
    assert seen[round(0.3 * STEPS) - 1] == pytest.approx(BASE)
    assert seen[-1] == pytest.approx(BASE / 25 / 1e4)


def test_onecycle_can_rise_for_one_step_only() -> None:
    seen = rates("onecycle", max_lr=BASE, pct_start=1 / STEPS, div_factor=25.0, final_div_factor=1e4)
    assert seen[0] == pytest.approx(BASE / 25)
    assert seen[-1] == pytest.approx(BASE / 25 / 1e4)
