"""Devices: whether they are there, which one to take, and what they are called."""

import os
import platform
from pathlib import Path
from typing import Any

import torch

from trialstack.core.errors import UserError


def check_devices(accelerator: str, devices: Any) -> None:
    """Check a trainer's `accelerator` and `devices` against this machine.

    Raises:
        UserError: there are none of that kind, or fewer.
    """
    gpus, mps = torch.cuda.device_count(), torch.backends.mps.is_available()
    if {"gpu": not gpus and not mps, "cuda": not gpus, "mps": not mps}.get(accelerator):
        needed = "a GPU that torch can use" if accelerator != "mps" else "a GPU of Apple's"
        raise UserError(
            f"trainer.accelerator={accelerator} needs {needed}, found none; try trainer=cpu"
        )
    kind, there = (
        ("GPUs", gpus) if gpus and accelerator != "cpu" else ("CPU cores", os.cpu_count() or 1)
    )
    wanted = max(devices) + 1 if isinstance(devices, list) else devices
    if isinstance(wanted, int) and wanted > there:
        raise UserError(
            f"trainer.devices <= {there} must hold ({kind} of this machine), got {devices}; try "
            f"trainer.devices={there}"
        )


def pick_device(accelerator: str) -> torch.device:
    """Return the device of `auto`, `cpu` or `gpu`, which multiplies without TF32.

    Raises:
        UserError: there is no GPU.
    """
    set_tf32(allowed=False)
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if accelerator == "cpu" or (accelerator == "auto" and device is None):
        return torch.device("cpu")
    if device is None:
        raise UserError(
            "accelerator=gpu needs a GPU that torch can use, found none; try accelerator=cpu"
        )
    return device


def set_tf32(allowed: bool) -> None:
    """Say how GPUs multiply, whatever the environment or other code has set.

    Args:
        allowed: factors may be rounded to 10 bits.
    """
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


def device_name(device: torch.device) -> str:
    """Return a device with its model, such as `cuda:0 (NVIDIA H100)`."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"{device} ({_processor()}, {torch.get_num_threads()} threads)"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
