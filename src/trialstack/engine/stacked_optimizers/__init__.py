"""The optimizers of a stack, a file each."""

import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from trialstack.core.build import build
from trialstack.core.members import members
from trialstack.core.origins import imported
from trialstack.engine.stacked_optimizer import Settings, StackedOptimizer

OPTIMIZERS: dict[type[torch.optim.Optimizer], type[StackedOptimizer[Any, Any]]] = {
    kind.of: kind
    for kinds in members(sys.modules[__name__], StackedOptimizer).values()  # type: ignore[type-abstract]
    for kind in kinds
}
"""By the class in torch.optim whose update they make."""


def build_optimizer(settings: Settings, weights: Tensor) -> StackedOptimizer[Any, Any]:
    """Return the optimizer that the `_target_` of all `settings` names."""
    kind = OPTIMIZERS[imported(settings[0]["_target_"])]
    return kind([complete_settings(setting) for setting in settings], weights)


def tensors_per_parameter(settings: Settings) -> int:
    """Return how many numbers an optimizer keeps for each parameter, itself included."""
    one = build_optimizer(settings, torch.zeros(len(settings), 1, 1))
    kept = (*vars(one).values(), *one.state.values())
    return len({tensor.data_ptr() for tensor in kept if torch.is_tensor(tensor)})


def complete_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return an `optimizer` group's arguments with torch's defaults for those that it lacks.

    Raises:
        UserError: torch's optimizer does not take them.
    """
    unused = torch.nn.Parameter(torch.zeros(1))
    return dict(build("optimizer", settings, torch.optim.Optimizer, [unused]).defaults)
