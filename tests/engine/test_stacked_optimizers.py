"""The optimizers of a stack against torch.optim.

Everything is float64 over 100 steps; 1e-12 is what is left of rounding.
"""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.engine.stand_in import CALLED
from trialstack.engine.stacked_optimizers import build_optimizer

STEPS, SHAPE = 100, (4, 3)

SGD, ADAM, ADAMW, RMSPROP, ADAGRAD = (
    {"_target_": f"torch.optim.{name}"} for name in ("SGD", "Adam", "AdamW", "RMSprop", "Adagrad")
)
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "sgd": [
        SGD | {"lr": lr, "weight_decay": decay}
        for lr, decay in ((0.1, 0.0), (0.02, 0.01), (0.3, 0.1))
    ],
    "momentum": [SGD | {"lr": 0.1, "momentum": momentum} for momentum in (0.9, 0.0, 0.5)],
    "momentum and decay": [
        SGD | {"lr": lr, "momentum": 0.9, "weight_decay": 0.01} for lr in (0.1, 0.2)
    ],
    "nesterov": [
        SGD | {"lr": 0.1, "momentum": m, "nesterov": True, "weight_decay": 0.1 * m}
        for m in (0.9, 0.5)
    ],
    "adam": [
        ADAM | {"lr": lr, "betas": [beta, 0.99], "eps": eps}
        for lr, beta, eps in ((0.1, 0.9, 1e-7), (0.01, 0.5, 1e-3))
    ],
    "adam and decay": [ADAM | {"lr": 0.1, "weight_decay": decay} for decay in (0.0, 0.1)],
    "adamw": [ADAMW | {"lr": lr, "weight_decay": 0.1} for lr in (0.1, 0.01)],
    "rmsprop": [
        RMSPROP | {"lr": lr, "alpha": alpha, "eps": eps}
        for lr, alpha, eps in ((0.1, 0.9, 1e-7), (0.01, 0.99, 1e-3))
    ],
    "rmsprop, momentum and decay": [
        RMSPROP | {"lr": 0.01, "momentum": momentum, "weight_decay": 0.1 * momentum}
        for momentum in (0.9, 0.0)
    ],
    "adagrad": [
        ADAGRAD | {"lr": 0.1, "lr_decay": decay, "initial_accumulator_value": initial, "eps": eps}
        for decay, initial, eps in ((0.0, 0.0, 1e-7), (0.1, 0.5, 1e-3))
    ],
    "adagrad and decay": [ADAGRAD | {"lr": 0.1, "weight_decay": decay} for decay in (0.0, 0.1)],
}
ALONE = [(name, [settings]) for name, trials in SETTINGS.items() for settings in trials]
TOGETHER = list(SETTINGS.items())


def gradients(weights_SP: Tensor) -> Tensor:
    """Gradients of any function that is not symmetric in its arguments."""
    return torch.sin(3 * weights_SP) + 0.1 * weights_SP.cumsum(-1)


def by_torch(settings: dict[str, Any], weights: Tensor, rates: np.ndarray[Any, Any]) -> Tensor:
    parameter = nn.Parameter(weights.clone())
    kind = getattr(torch.optim, settings["_target_"].rpartition(".")[2])
    optimizer = kind(
        [parameter], **{key: value for key, value in settings.items() if key != "_target_"}
    )
    for rate in rates:
        optimizer.param_groups[0]["lr"] = float(rate)
        parameter.grad = gradients(parameter.detach())
        optimizer.step()
    return parameter.detach()


def by_stack(optimizer: Any, weights: Tensor, rates_KS: np.ndarray[Any, Any]) -> None:
    """Train in two chunks of one epoch and then another epoch."""
    for first, end in ((0, 60), (60, STEPS)):
        table_QKS = optimizer.table(rates_KS[first:end], first)
        for chunk in table_QKS.split(25, dim=1):
            for step in optimizer.steps(chunk):
                gradient = gradients(weights) * step.scale
                keep = optimizer.begin(step)
                optimizer.accumulator.mul_(keep).add_(gradient)
                optimizer.end(step)


@pytest.mark.parametrize("as_on_cuda", [False, True])
@pytest.mark.parametrize(("name", "trials"), ALONE + TOGETHER)
def test_a_hundred_steps_are_those_of_torch(
    name: str, trials: list[dict[str, Any]], as_on_cuda: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if as_on_cuda:
        monkeypatch.setattr("trialstack.engine.execution.CPU", CALLED)
    rates_KS = np.stack([np.linspace(trial["lr"], 0.01, STEPS) for trial in trials], axis=1)
    torch.manual_seed(1)
    shape = (1, 6) if len(trials) == 1 else (len(trials), 1, 6)
    weights = torch.randn(shape, dtype=torch.float64)
    initial = weights.clone()
    optimizer = build_optimizer(trials, weights)
    by_stack(optimizer, weights, rates_KS)
    for trial, settings in enumerate(trials):
        start, end = (tensor.view(len(trials), 6)[trial] for tensor in (initial, weights))
        expected = by_torch(settings, start, rates_KS[:, trial])
        assert not torch.equal(expected, start)
        torch.testing.assert_close(end, expected, rtol=1e-12, atol=1e-12)
