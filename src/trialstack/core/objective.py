"""The objective: the number that picks a run's best epoch and that a sweep optimises."""

OBJECTIVES = ("val/acc", "val/loss", "train/acc", "train/loss")


def direction(objective: str) -> str:
    """Return `min` for losses and `max` for everything else, Lightning's and Optuna's words."""
    return "min" if objective.endswith("loss") else "max"


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
