"""Kernels and microseconds of a step, for stacks of several sizes.

Shapes: S trials in a stack, K optimizer steps in a chunk.
"""

from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.check import NEEDS_CUDA, Finding, Where
from benchmarks.gpu.environment import seconds
from benchmarks.gpu.stacks import Setup, Trained, samples

CHUNK = 64
SAMPLES = CHUNK * 32 * 4
MOST_MICROSECONDS = 60
"""Of a step of one trial."""
MOST_KERNELS = {"sgd": 14, "adam": 16}
"""Of a step of one trial with two hidden layers."""

ARTICLES: dict[str, tuple[str, tuple[int, ...], float]] = {
    "mlp300": ("sgd", (300, 100), 0.0),
    "mlp128": ("adam", (128,), 0.2),
}


def microseconds(where: Where) -> Finding:
    """The articles' networks, trials that share a seed."""
    numbers: dict[str, dict[int, float]] = {}
    for name, (optimizer, hidden, dropout) in ARTICLES.items():
        numbers[name] = {}
        for count in (1, 4, 16, 64, 256, 1024) if where.cuda else (1, 4):
            trained = _float32(optimizer, hidden, dropout, count, where)
            chunk = _first_chunk(trained)
            for _ in range(3):
                trained.stack.train_chunk(chunk, 0)
            taken = seconds(where.device, lambda t=trained, c=chunk: t.stack.train_chunk(c, 0), 5)  # type: ignore[misc]
            numbers[name][count] = taken / CHUNK * 1e6
    ones = [of_network[1] for of_network in numbers.values()]
    return Finding(
        max(ones) <= MOST_MICROSECONDS if where.cuda else None,
        "µs a step: "
        + "; ".join(
            f"{name} " + ", ".join(f"S={count} {taken:.0f}" for count, taken in by_count.items())
            for name, by_count in numbers.items()
        ),
        numbers,
    )


def kernels(where: Where) -> Finding:
    """Of a step with two hidden layers, as the profiler sees a replayed chunk."""
    if not where.cuda:
        return NEEDS_CUDA
    numbers: dict[str, Any] = {}
    for optimizer in MOST_KERNELS:
        for count, dropout in ((1, 0.0), (3, 0.0), (3, 0.2)):
            trained = _float32(optimizer, (300, 100), dropout, count, where)
            chunk = _first_chunk(trained)
            half = chunk[:, : CHUNK // 2]
            of_step = (_kernels(trained, chunk) - _kernels(trained, half)) / (CHUNK // 2)
            numbers[f"{optimizer}, S={count}, dropout {dropout}"] = of_step
    most = {name: MOST_KERNELS[name.partition(",")[0]] for name in numbers if "S=1" in name}
    return Finding(
        all(numbers[name] <= bound for name, bound in most.items()),
        "; ".join(f"{name}: {value:.1f}" for name, value in numbers.items()),
        numbers,
    )


def _kernels(trained: Trained, chunk: torch.Tensor) -> int:
    for _ in range(2):
        trained.stack.train_chunk(chunk, 0)
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        trained.stack.train_chunk(chunk, 0)
        torch.cuda.synchronize()
    return sum(
        event.count
        for event in profiled.key_averages()
        if event.device_type == torch._C._autograd.DeviceType.CUDA and "Mem" not in event.key
    )


def _float32(
    optimizer: str, hidden: tuple[int, ...], dropout: float, count: int, where: Where
) -> Trained:
    setup = Setup(
        optimizer, [0.001] * count, [hidden] * count, [dropout] * count,
        dtype=torch.float32, steps=CHUNK,
    )  # fmt: skip
    return Trained(setup, samples(SAMPLES, where.device))


def _first_chunk(trained: Trained) -> torch.Tensor:
    trained.begin_epoch()
    return next(iter(trained.chunks))
