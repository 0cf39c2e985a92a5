"""Numbers as a person would write them."""

from torch import Tensor


def shortest(scalar: Tensor) -> float:
    """Return the shortest decimal that stands for a scalar in its dtype: 0.85333335, not
    0.8533333539962769.
    """
    return float(str(scalar.cpu().numpy()))
