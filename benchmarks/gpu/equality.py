"""Whether replayed steps are the called ones, on the device and on the CPU, and the same again."""

from collections.abc import Iterator
from itertools import product

import torch

from benchmarks.gpu.check import NEEDS_CUDA, Finding, Where
from benchmarks.gpu.stacks import OPTIMIZERS, Setup, Trained, apart, called, samples
from trialstack.engine.activations import ACTIVATIONS

SAMPLES, EPOCHS = 300, 3
BOUND = 1e-9
"""On differences of weights in float64, relative to their norm."""

CPU = torch.device("cpu")


def setups() -> Iterator[Setup]:
    """Every optimizer with and without dropout, alone and not, and every activation."""
    rates, widths, seeds = (0.05, 0.02, 0.1), ((24, 17), (9, 17), (24, 5)), (1, 2, 3)
    dropouts = (0.0, 0.2, 0.5)
    for optimizer, dropout in product(OPTIMIZERS, (0.0, 0.2)):
        yield Setup(optimizer, rates[:1], widths[:1], [dropout])
        yield Setup(optimizer, rates, [widths[0]] * 3, [dropout] * 3)
        yield Setup(optimizer, rates, widths, dropouts if dropout else [0.0] * 3, seeds)
    for activation, hidden in product(ACTIVATIONS, ((), (7,), (9, 8, 7))):
        yield Setup("sgd", rates, [hidden] * 3, dropouts, activation=activation)


def replayed_is_called(where: Where) -> Finding:
    """The device's replayed steps, its called ones, and those of the CPU."""
    largest = {"replayed and called": 0.0, "device and CPU": 0.0}
    count = 0
    for setup in setups():
        replayed = _trained(setup, where.device)
        with called(where.device):
            plain = _trained(setup, where.device)
        on_cpu = _trained(setup, CPU)
        count += 1
        for index in range(len(setup.rates)):
            for pair, other in zip(largest, (plain, on_cpu), strict=True):
                difference = apart(replayed.weights(index), other.weights(index))
                largest[pair] = max(largest[pair], difference)
    return Finding(
        max(largest.values()) <= BOUND,
        f"{count} setups, float64: "
        + ", ".join(f"{pair} {value:.1e}" for pair, value in largest.items()),
        {"setups": count, **largest},
    )


def nothing_waits(where: Where) -> Finding:
    """Replayed chunks with every wait for the device made an error."""
    if not where.cuda:
        return NEEDS_CUDA
    setup = Setup("adam", [0.01] * 3, [(24, 17)] * 3, [0.2] * 3, dtype=torch.float32)
    trained = Trained(setup, samples(SAMPLES, where.device))
    trained.train(1)
    trained.begin_epoch()
    chunks = list(trained.chunks)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for number, index in enumerate(chunks):
            trained.stack.train_chunk(index, number * setup.steps)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return Finding(True, f"{len(chunks)} chunks")


def twice_the_same(where: Where) -> Finding:
    """Float32, bit for bit."""
    same = []
    for optimizer in OPTIMIZERS:
        setup = Setup(
            optimizer, [0.01] * 8, [(300, 100)] * 8, [0.2] * 8, range(8), dtype=torch.float32
        )
        one, other = (_trained(setup, where.device) for _ in range(2))
        same.append(torch.equal(one.stack.parameters, other.stack.parameters))
    return Finding(all(same), f"{sum(same)} of {len(same)} optimizers bit-equal")


def alone_is_in_a_stack(where: Where) -> Finding:
    """A trial beside others of other widths, two of which diverge."""
    setup = Setup(
        "sgd",
        rates=(0.05, 1e200, 0.1, 1e100),
        hidden=((24, 17), (30, 30), (9, 17), (24, 5)),
        dropouts=(0.2, 0.0, 0.5, 0.1),
        seeds=(1, 2, 1, 3),
    )
    together = _trained(setup, where.device)
    differences = [
        apart(together.weights(index), _trained(setup.of(index), where.device).weights(0))
        for index in (0, 2)
    ]
    diverged = not together.weights(1).isfinite().all()
    return Finding(
        diverged and max(differences) <= BOUND,
        f"float64, beside diverging trials: {max(differences):.1e}",
        {"differences": differences, "another_diverged": bool(diverged)},
    )


def _trained(setup: Setup, device: torch.device) -> Trained:
    trained = Trained(setup, samples(SAMPLES, device))
    trained.train(EPOCHS)
    return trained
