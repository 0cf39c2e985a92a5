"""The update of Adam and AdamW as one kernel of a GPU, in Triton: a number of a parameter is read
and written once.

Shapes: S trials in a stack, P parameters of a trial.
"""

from collections.abc import Sequence

import triton
import triton.language as tl
from torch import Tensor

BLOCK = 1024
"""Parameters that a program of the kernel updates."""


NUMBERS = ("decay", "keep1", "beta2", "keep2", "eps", "negative_rate")


@triton.jit(do_not_specialize_on_alignment=NUMBERS)  # type: ignore[untyped-decorator]
def _update(
    weights, gradient, exp_avg, exp_avg_sq,
    decay, keep1, beta2, keep2, eps, negative_rate,
    size, DECOUPLED: tl.constexpr, DOUBLE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    trial = tl.program_id(1)
    parameter = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = parameter < size
    at = trial.to(tl.int64) * size + parameter
    w = tl.load(weights + at, mask=inside)
    g = tl.load(gradient + at, mask=inside)
    m = tl.load(exp_avg + at, mask=inside)
    v = tl.load(exp_avg_sq + at, mask=inside)
    if DECOUPLED:
        w *= tl.load(decay + trial)
    else:
        g += tl.load(decay + trial) * w
    m += tl.load(keep1 + trial) * (g - m)
    v = tl.load(beta2 + trial) * v + tl.load(keep2 + trial) * g * g
    if DOUBLE:
        w += tl.load(negative_rate + trial) * (m / (tl.sqrt(v) + tl.load(eps + trial)))
    else:
        root = tl.sqrt_rn(v) + tl.load(eps + trial)
        w += tl.load(negative_rate + trial) * tl.div_rn(m, root)
    tl.store(weights + at, w, mask=inside)
    tl.store(exp_avg + at, m, mask=inside)
    tl.store(exp_avg_sq + at, v, mask=inside)


def update(
    weights: Tensor,
    gradient: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    numbers: Sequence[Tensor],
    decoupled: bool,
) -> None:
    """Do what `trialstack::adam` does, see there, in one kernel."""
    size = weights.shape[-1]
    grid = (triton.cdiv(size, BLOCK), weights.numel() // size)
    _update[grid](
        weights, gradient, exp_avg, exp_avg_sq, *numbers, size,
        DECOUPLED=decoupled, DOUBLE=weights.element_size() == 8, BLOCK=BLOCK,
        enable_fp_fusion=False,
    )  # fmt: skip
