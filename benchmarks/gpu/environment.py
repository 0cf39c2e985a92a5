"""What the machine is, what it is set to, and how fast it copies and multiplies."""

import os
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.bench import versions
from benchmarks.gpu.check import NEEDS_CUDA, Finding, Where
from trialstack.engine.adam_update import compiled
from trialstack.run.devices import device_name, set_tf32

BYTES = 2**28
SIZES = (1024, 4096)


def environment(where: Where) -> Finding:
    """Versions, devices, and TF32 as runs have it: off."""
    set_tf32(allowed=False)
    numbers: dict[str, Any] = {
        "versions": versions(),
        "device": device_name(where.device),
        "cores": os.cpu_count(),
        "cuda": torch.version.cuda,
        "tf32": torch.backends.cuda.matmul.allow_tf32,
        "adam_in_one_kernel": where.cuda and compiled(where.device) is not None,
    }
    left, right = (torch.rand(512, 512, device=where.device) for _ in range(2))
    exact = left.double() @ right.double()
    numbers["error_of_product"] = float(((left @ right).double() - exact).abs().max() / exact.max())
    kernel = "one kernel" if numbers["adam_in_one_kernel"] else "the formula"
    return Finding(
        not numbers["tf32"] and numbers["error_of_product"] < 1e-5,
        f"{numbers['device']}, torch {torch.__version__}, TF32 off, Adam is {kernel}",
        numbers,
    )


def bandwidth(where: Where) -> Finding:
    """Copies on the device, and from and to pinned memory."""
    if not where.cuda:
        return NEEDS_CUDA
    source, target = (torch.empty(BYTES, dtype=torch.uint8, device=where.device) for _ in range(2))
    host = torch.empty(BYTES, dtype=torch.uint8, pin_memory=True)
    numbers = {
        "on_device": 2 * BYTES / seconds(where.device, lambda: target.copy_(source)) / 1e9,
        "to_device": BYTES / seconds(where.device, lambda: target.copy_(host)) / 1e9,
        "to_host": BYTES / seconds(where.device, lambda: host.copy_(source)) / 1e9,
    }
    return Finding(
        None, ", ".join(f"{name} {value:.0f} GB/s" for name, value in numbers.items()), numbers
    )


def products(where: Where) -> Finding:
    """Float32 products of square matrices, TFLOP/s."""
    numbers = {}
    for size in SIZES if where.cuda else SIZES[:1]:
        left, right = (torch.rand(size, size, device=where.device) for _ in range(2))
        taken = seconds(where.device, lambda one=left, other=right: one @ other)  # type: ignore[misc]
        numbers[f"{size}"] = 2 * size**3 / taken / 1e12
    return Finding(
        None, ", ".join(f"{size}: {rate:.2f} TFLOP/s" for size, rate in numbers.items()), numbers
    )


def seconds(device: torch.device, call: Callable[[], Any], calls: int = 10) -> float:
    """Return the seconds of a call, the best of three means, after a warm-up."""
    means = []
    for _ in range(4):
        wait(device)
        began = time.perf_counter()
        for _ in range(calls):
            call()
        wait(device)
        means.append((time.perf_counter() - began) / calls)
    return min(means[1:])


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
