"""What stacks take of a GPU's memory against what is said, and what happens where it is short."""

import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import torch

from benchmarks.gpu.check import NEEDS_CUDA, Finding, Where
from benchmarks.gpu.fits import trials
from benchmarks.gpu.stacks import CLASSES, Setup, Trained, samples
from trialstack.core.schema import TrialConfig
from trialstack.data.datamodule import ImageDataModule
from trialstack.engine.capacity import trial_bytes
from trialstack.engine.memory import CUDA_SHARE, release_memory
from trialstack.run.status import Status
from trialstack.run.train import train

SAMPLES = 55_000
FEW, MANY = 8, 40
WITHIN = 1.25
NETWORKS: dict[str, tuple[str, str, tuple[int, ...], float]] = {
    "mlp300": ("model=mlp300", "sgd", (300, 100), 0.0),
    "mlp128": ("model=mlp128", "adam", (128,), 0.2),
    "wide": (
        "model=mlp128 model.hidden=[1024,1024] model.dropout=0.5",
        "adam",
        (1024, 1024),
        0.5,
    ),
}
WIDE = ("model=mlp128", "model.hidden=[2048,2048]", "trainer.max_epochs=2")


def allocated_is_said(where: Where) -> Finding:
    """What a trial more takes at its peak, three networks."""
    if not where.cuda:
        return NEEDS_CUDA
    numbers: dict[str, Any] = {}
    for name, (overrides, optimizer, hidden, dropout) in NETWORKS.items():
        data = samples(SAMPLES, where.device)
        peaks = [_peak(count, optimizer, hidden, dropout, where) for count in (FEW, MANY)]
        measured = (peaks[1] - peaks[0]) / (MANY - FEW)
        [trial] = trials(where.folder / name, where, [overrides])
        module = SimpleNamespace(train_samples=data, class_names=range(CLASSES), batch_size=32)
        said = trial_bytes([trial.config] * MANY, cast(ImageDataModule, module))[where.device]
        numbers[name] = {"said": said, "measured": measured, "ratio": said / measured}
    ratios = [of_network["ratio"] for of_network in numbers.values()]
    return Finding(
        all(1 / WITHIN <= ratio <= WITHIN for ratio in ratios),
        "said / allocated: "
        + ", ".join(f"{name} {ratio:.2f}" for name, ratio in zip(numbers, ratios, strict=True)),
        numbers,
    )


def _peak(count: int, optimizer: str, hidden: tuple[int, ...], dropout: float, where: Where) -> int:
    setup = Setup(
        optimizer, [0.001] * count, [hidden] * count, [dropout] * count, range(count),
        dtype=torch.float32, steps=64,
    )  # fmt: skip
    release_memory()
    torch.cuda.reset_peak_memory_stats(where.device)
    trained = Trained(setup, samples(SAMPLES, where.device))
    trained.train(1)
    trained.stack.keep(range(count))
    return torch.cuda.max_memory_allocated(where.device)


def stacks_one_after_another(where: Where) -> Finding:
    """Trials that need two stacks, for other tensors hold most of the memory."""
    if not where.cuda:
        return NEEDS_CUDA
    made = trials(where.folder / "stacks", where, _rates(12), *WIDE)
    needed = _bytes([trial.config for trial in made], where)
    release_memory()
    free, _ = torch.cuda.mem_get_info(where.device)
    left = int(8 * needed / CUDA_SHARE) + 2**29  # for eight, the data and what libraries take
    ballast = torch.empty(max(0, free - left), dtype=torch.uint8, device=where.device)
    results = train(made)
    del ballast
    sizes = [result.stack_size for result in results]
    return Finding(
        all(result.status == Status.COMPLETED for result in results)
        and min(sizes) > 1
        and max(sizes) < len(made),
        f"stacks of {sorted(set(sizes))} of {len(made)}",
        {"stack_sizes": sizes},
    )


def out_of_memory(where: Where) -> Finding:
    """A stack that does not fit although it should: two halves train in its place."""
    if not where.cuda:
        return NEEDS_CUDA
    made = trials(where.folder / "halves", where, _rates(16), *WIDE)
    release_memory()
    needed = 16 * _bytes([trial.config for trial in made], where)
    total = torch.cuda.get_device_properties(where.device).total_memory
    reserved = torch.cuda.memory_reserved(where.device)
    torch.cuda.set_per_process_memory_fraction(
        (reserved + 2**28 + 0.7 * needed) / total, where.device
    )
    try:
        results = train(made)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, where.device)
    sizes = [result.stack_size for result in results]
    return Finding(
        all(result.status == Status.COMPLETED for result in results) and max(sizes) < len(made),
        f"stacks of {sorted(set(sizes))} of {len(made)}",
        {"stack_sizes": sizes},
    )


def _rates(count: int) -> list[str]:
    return [f"optimizer.lr={0.0001 * math.exp(number / count):.6f}" for number in range(count)]


def _bytes(configs: Sequence[TrialConfig], where: Where) -> int:
    module = SimpleNamespace(
        train_samples=samples(5_000, where.device), class_names=range(CLASSES), batch_size=32
    )
    return trial_bytes(configs, cast(ImageDataModule, module))[where.device]
