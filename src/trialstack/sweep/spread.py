"""Stacks divided so that all workers are busy, and end at about the same time."""

import heapq
import math
from collections.abc import Sequence

from trialstack.core.groups import MLPConfig
from trialstack.core.schema import TrialConfig
from trialstack.engine.capacity import most_in_stack
from trialstack.run.grouping import Planned, divided, network_work

EAGER = 5
"""A trial's cost on the eager engine, of that in a stack."""

GAIN = 0.02
"""What further parts must save of the time of all."""

FLAT = 32
"""Trials that a GPU trains in the time that it needs for a few: up to there it waits for its
kernels to be launched.
"""


def spread(
    stacks: Sequence[Planned], configs: Sequence[TrialConfig], workers: int, on_gpu: bool
) -> list[list[int]]:
    """Return the members of stacks in parts, of several workers the most costly first: in no more
    parts than shorten the time until the last worker has ended, or than `engine.max_stack` makes.

    Args:
        stacks: that are planned.
        configs: of all trials.
        workers: that train stacks at once.
        on_gpu: a stack's time hardly depends on its size.
    """

    def cost(stack: Planned, size: int) -> float:
        return _trial_cost(stack, configs) * (FLAT + size if on_gpu else size)

    def end() -> float:
        return last_end(
            [
                cost(stack, len(part))
                for stack, count in zip(stacks, counts, strict=True)
                for part in _parts(stack, count)
            ],
            workers,
        )

    counts = [_fewest_parts(stack, configs) for stack in stacks]
    best, earliest = list(counts), end()
    most = 2 * workers + sum(counts)
    while workers > 1 and sum(counts) < most:
        largest = [
            cost(stack, len(_parts(stack, count)[0])) if count < len(stack.members) else 0.0
            for stack, count in zip(stacks, counts, strict=True)
        ]
        if not any(largest):
            break
        counts[largest.index(max(largest))] += 1
        if end() < (1 - GAIN) * earliest:
            best, earliest = list(counts), end()
    divided_stacks = [
        (cost(stack, len(part)), part)
        for stack, count in zip(stacks, best, strict=True)
        for part in _parts(stack, count)
    ]
    if workers > 1:
        divided_stacks.sort(key=lambda costly: -costly[0])
    return [part for _, part in divided_stacks]


def last_end(seconds: Sequence[float], workers: int) -> float:
    """Return when the last of some tasks ends, if workers take the longest first."""
    busy = [0.0] * min(workers, len(seconds))
    for taken in sorted(seconds, reverse=True):
        heapq.heapreplace(busy, busy[0] + taken)
    return max(busy, default=math.nan)


def _fewest_parts(stack: Planned, configs: Sequence[TrialConfig]) -> int:
    limit = most_in_stack([configs[member] for member in stack.members])
    return 1 if limit is None else -(-len(stack.members) // limit)


def _parts(stack: Planned, count: int) -> list[list[int]]:
    return divided(stack.members, -(-len(stack.members) // count))


def _trial_cost(stack: Planned, configs: Sequence[TrialConfig]) -> float:
    """Of one trial of a stack, in a unit that all have in common."""
    config = configs[stack.members[0]]
    widths = stack.padded or (config.model.hidden if isinstance(config.model, MLPConfig) else [1])
    slower = EAGER if stack.eager is not None else 1
    return config.trainer.max_epochs * network_work(widths) * slower
