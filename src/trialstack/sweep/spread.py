"""Stacks divided so that all workers are busy, and end at about the same time."""

import heapq
import math
from collections.abc import Sequence

from trialstack.core.groups import MLPConfig
from trialstack.core.schema import TrialConfig
from trialstack.run.grouping import Planned, divided, network_work

EAGER = 5
"""A trial's cost on the eager engine, of that in a stack."""

GAIN = 0.02
"""What a further part must save of the time of all."""

FLAT = 32
"""Trials that a GPU trains in the time that it needs for a few: up to there it waits for its
kernels to be launched."""


def spread(
    stacks: Sequence[Planned], configs: Sequence[TrialConfig], workers: int, on_gpu: bool = False
) -> list[list[int]]:
    """Return the members of stacks, the most costly first, in no more parts than shorten the time
    until the last worker has ended.

    Args:
        stacks: that are planned.
        configs: of all trials.
        workers: that train stacks at once.
        on_gpu: a stack's time hardly depends on its size.
    """
    costs = [_cost(stack, configs) for stack in stacks]
    parts = [1] * len(stacks)
    best, least = list(parts), _end(stacks, costs, parts, workers, on_gpu)
    while workers > 1 and sum(parts) < 2 * workers + len(stacks):
        largest = [
            _of_part(len(stack.members), count, cost, on_gpu) if count < len(stack.members) else 0.0
            for stack, count, cost in zip(stacks, parts, costs, strict=True)
        ]
        if not any(largest):
            break
        parts[largest.index(max(largest))] += 1
        end = _end(stacks, costs, parts, workers, on_gpu)
        if end < (1 - GAIN) * least:
            best, least = list(parts), end
    divisions = [
        (_of_part(len(part), 1, cost, on_gpu), part)
        for stack, count, cost in zip(stacks, best, costs, strict=True)
        for part in divided(stack.members, -(-len(stack.members) // count))
    ]
    if workers > 1:
        divisions.sort(key=lambda division: -division[0])
    return [part for _, part in divisions]


def _cost(stack: Planned, configs: Sequence[TrialConfig]) -> float:
    """Of one trial of a stack, in a unit that all have in common."""
    config = configs[stack.members[0]]
    widths = stack.padded or (config.model.hidden if isinstance(config.model, MLPConfig) else [1])
    slower = EAGER if stack.eager is not None else 1
    return config.trainer.max_epochs * network_work(widths) * slower


def _of_part(members: int, parts: int, cost: float, on_gpu: bool) -> float:
    """The cost of the largest of so many parts."""
    size = -(-members // parts)
    return cost * (FLAT + size if on_gpu else size)


def _end(
    stacks: Sequence[Planned],
    costs: Sequence[float],
    parts: Sequence[int],
    workers: int,
    on_gpu: bool,
) -> float:
    """When the last worker ends, if each takes the most costly part that is left."""
    of_parts = [
        _of_part(size, 1, cost, on_gpu)
        for stack, cost, count in zip(stacks, costs, parts, strict=True)
        for size in _sizes(len(stack.members), count)
    ]
    return last_end(of_parts, workers)


def last_end(seconds: Sequence[float], workers: int) -> float:
    """Return when the last of some tasks ends, if workers take the longest first."""
    busy = [0.0] * min(workers, len(seconds))
    for taken in sorted(seconds, reverse=True):
        heapq.heapreplace(busy, busy[0] + taken)
    return max(busy, default=math.nan)


def _sizes(members: int, parts: int) -> list[int]:
    return [len(part) for part in divided(range(members), -(-members // parts))]
