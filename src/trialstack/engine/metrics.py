"""Metrics of a config besides loss and accuracy: torchmetrics' classes, or the user's own.

Shapes: n samples, C classes.
"""

import inspect
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from trialstack.core.build import build, named_class
from trialstack.core.errors import UserError
from trialstack.core.objective import direction
from trialstack.engine.shortest import shortest

Output = tuple[Tensor, Tensor]
"""Logits [n, C] and labels [n]."""


class Metrics:
    """Measures a part of the data as a whole: a metric gets probabilities [n, C] and labels [n].

    Args:
        configs: `_target_` and arguments of each metric, by its name; `num_classes` is added where
            a class takes it.
        classes: C.

    Raises:
        UserError: a metric cannot be made, or its name says that the other direction is better.
    """

    def __init__(self, configs: Mapping[str, Any], classes: int) -> None:
        self.metrics = {name: _built(name, config, classes) for name, config in configs.items()}

    def __bool__(self) -> bool:
        return bool(self.metrics)

    def check(self, classes: int) -> None:
        """Measure a sample of each class.

        Raises:
            UserError: a metric does not take what it gets, or gives something else than one number.
        """
        self.measure([(torch.eye(classes), torch.arange(classes))])

    def measure(self, outputs: Sequence[Output], over_processes: bool = False) -> dict[str, float]:
        """Return the metrics of samples, by name.

        Args:
            outputs: minibatches.
            over_processes: of the samples of all processes that train together.

        Raises:
            UserError: a metric gives something else than one number, or fails.
        """
        if not self.metrics or not outputs:
            return {}
        logits_nC, labels_n = map(torch.cat, zip(*outputs, strict=True))
        probabilities_nC = logits_nC.detach().float().softmax(1)
        return {
            name: _measured(name, metric, probabilities_nC, labels_n, over_processes)
            for name, metric in self.metrics.items()
        }


def takes_classes(cls: type[Metric]) -> bool:
    """Tell whether a metric is made for a number of classes."""
    return "num_classes" in inspect.signature(cls).parameters


def _built(name: str, config: Mapping[str, Any], classes: int) -> Metric:
    group = f"metrics.{name}"
    extra = {"num_classes": classes} if takes_classes(named_class(group, config, Metric)) else {}  # type: ignore[type-abstract]
    metric: Metric = build(group, config, Metric, **extra)  # type: ignore[type-abstract]
    higher = metric.higher_is_better
    if higher is not None and higher != (direction(name) == "max"):
        other = name.removesuffix("_error") if higher else f"{name}_error"
        raise UserError(
            f"{group}: {'higher' if higher else 'lower'} is better of it, which its name must say: "
            f"of losses and errors lower is; try {other if other != name else 'score'} as its name"
        )
    return metric


def _measured(
    name: str, metric: Metric, probabilities_nC: Tensor, labels_n: Tensor, over_processes: bool
) -> float:
    metric.to(labels_n.device)
    metric.sync_on_compute = over_processes
    try:
        with warnings.catch_warnings(action="ignore"):  # such as of a class without samples
            metric.update(probabilities_nC, labels_n)
            value = metric.compute()
    except Exception as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"metrics.{name} does not take probabilities {list(probabilities_nC.shape)} and labels "
            f"{list(labels_n.shape)}: {reason}"
        ) from error
    finally:
        metric.reset()
    if not isinstance(value, Tensor) or value.numel() != 1:
        shape = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise UserError(
            f"metrics.{name} must give one number, got {shape}; leave it out, or give it arguments "
            "with which it does, such as average=macro"
        )
    return shortest(value.float())
