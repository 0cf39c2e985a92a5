"""The update of Adam and AdamW for all trials, one operation: on a GPU with Triton one kernel.

Shapes: S trials in a stack, P parameters of a trial.
"""

import functools
import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

log = logging.getLogger(__name__)


def formula(
    weights: Tensor,
    gradient: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    numbers: Sequence[Tensor],
    decoupled: bool,
) -> None:
    """Make a step, in operations of torch.

    Args:
        weights: [S, 1, P] or [1, P], as the three after it.
        gradient: afterwards it has whatever the calculation left in it.
        exp_avg: mean of gradients.
        exp_avg_sq: mean of their squares.
        numbers: of each trial, [S, 1, 1] or [1, 1]: decay, 1 - beta1, beta2, 1 - beta2, eps and
            the negative learning rate, the last two with the corrections of both means.
        decoupled: decay is a factor of the weights, as in AdamW; else it is what of them is added
            to their gradient.
    """
    decay, keep1, beta2, keep2, eps, negative_rate = numbers
    if decoupled:
        weights.mul_(decay)
    else:
        gradient.addcmul_(weights, decay)
    exp_avg.lerp_(gradient, keep1)
    exp_avg_sq.mul_(beta2).addcmul_(gradient.square_(), keep2)
    denominator = torch.sqrt(exp_avg_sq, out=gradient).add_(eps)
    weights.addcmul_(torch.div(exp_avg, denominator, out=denominator), negative_rate)


adam = torch.library.custom_op(
    "trialstack::adam", formula, mutates_args=("weights", "gradient", "exp_avg", "exp_avg_sq")
)
"""The same as one operation of torch."""


@adam.register_kernel("cuda")
def _on_cuda(weights: Tensor, *others: Any) -> None:
    with torch.cuda.device(weights.device):
        update = compiled(weights.device) or formula
        update(weights, *others)


@functools.cache
def compiled(device: torch.device) -> Callable[..., None] | None:
    """Return the update as one kernel; None where Triton or the C compiler that it needs is
    missing, which the log says.
    """
    try:
        from trialstack.engine.adam_triton import update

        one = torch.ones(1, 1, device=device)
        update(one.clone(), one.clone(), one.clone(), one.clone(), [one] * 6, decoupled=False)
    except Exception as error:  # of Triton, a compiler, a linker
        text = " ".join(str(error).split())
        log.info("Adam takes eight kernels a step in place of one (Triton: %.200s)", text)
        return None
    return update
