"""The objective: the metric that picks a run's best epoch and that a sweep optimises.

Metrics have names such as `val/loss`: a part of the data, and what is measured there.
"""

import re
from typing import Literal

from trialstack.core.rule import Rule

MEASURED = ("val/acc", "val/loss", "train/acc", "train/loss")
"""Metrics of every classifier, an epoch each."""

COUNTS = ("epoch", "step", "lr", "seconds")
"""What is known of an epoch beside its metrics."""

_LOWER = (
    "loss", "error", "mse", "mae", "mape", "nll", "kl", "perplexity", "divergence", "distance",
)  # fmt: skip
"""Ends of the names of metrics that are better the smaller they are."""


def is_metric(name: str) -> bool:
    """Tell whether an epoch's metric can have a name: it fits columns, tags and command lines."""
    return name.isprintable() and re.fullmatch(r"[^\s,]+", name) is not None and name not in COUNTS


METRIC = Rule(
    "the name of a metric of training or validation",
    lambda x: isinstance(x, str) and is_metric(x) and not x.startswith("test/"),
    "val/acc",
)
"""Of `objective`."""


def direction(objective: str) -> Literal["min", "max"]:
    """Return `min` or `max`, Lightning's and Optuna's words, by the metric's name: losses and
    errors are to fall, everything else to rise.
    """
    words = re.findall(r"[a-z]+", objective.rpartition("/")[2].lower())
    return "min" if any(word.endswith(_LOWER) for word in words) else "max"


def improves(score: float, best: float | None, objective: str) -> bool:
    """Tell whether `score` beats `best`; NaN beats nothing, and anything but NaN beats None."""
    if best is None:
        return score == score
    return score < best if direction(objective) == "min" else score > best


def rounded(score: float) -> str:
    """Return a loss or an accuracy as text of at most seven characters."""
    if abs(score) < 10:
        return f"{score:.4f}"
    return f"{score:.5g}" if abs(score) < 9999.5 else f"{score:.1e}"
