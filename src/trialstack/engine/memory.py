"""Memory: how much of it a stack may take, whether an error says that none is left, and giving it
back.
"""

import ctypes
import errno
import gc
import resource
from collections.abc import Iterator
from pathlib import Path

import psutil
import torch

CUDA_SHARE = 0.8
"""Of a GPU's free memory that a stack may take."""

CPU_SHARE = 0.125
"""Of the free memory: it is not this process's alone, and on a CPU a larger stack is no faster."""

ADDRESS_SHARE = 0.5
"""Of the addresses that are left: they are this process's alone, with gaps where something was."""

LARGE_BLOCK = 2**20
"""Bytes from which on a block goes back at once, see `return_addresses`."""

_M_MMAP_THRESHOLD = -3

_GROUP_FILES = (
    ("memory.max", "memory.current"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes"),
)
"""A control group's limit and what it uses of it, in bytes: version 2, version 1."""

_OUT_OF_MEMORY = (
    "out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory",
    "cublas_status_alloc_failed", "std::bad_alloc",
)  # fmt: skip
"""What a RuntimeError of torch says of it, in lower case."""


def free_memory(device: torch.device) -> float:
    """Return the part of a device's memory, in bytes, that a stack may take now."""
    if device.type == "cuda":
        return CUDA_SHARE * torch.cuda.mem_get_info(device)[0]
    shared = min(float(psutil.virtual_memory().available), left_of_groups())
    return max(0.0, min(CPU_SHARE * shared, ADDRESS_SHARE * left_of_address_space()))


def left_of_address_space() -> float:
    """Return how many bytes this process may still map (`ulimit -v`); infinite without a limit."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return (
        float("inf")
        if limit == resource.RLIM_INFINITY
        else float(limit - psutil.Process().memory_info().vms)
    )


def return_addresses() -> None:
    """Under a limit of the address space, have large blocks leave it when they are freed.

    glibc would keep them for blocks of that size, on and on once a larger one was freed: after a
    stack that did not fit, nothing was left for the file of a smaller one.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None and left_of_address_space() < float("inf"):
        mallopt(_M_MMAP_THRESHOLD, LARGE_BLOCK)


def left_of_groups(
    mount: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")
) -> float:
    """Return how many bytes the limits of this process's control groups leave; infinite without
    one.

    Args:
        mount: where control groups are, those of version 1 in folders by controller.
        own: says in which of them this process is.
    """
    return min(
        (left for group in _groups(mount, own) for left in _left_of(group)), default=float("inf")
    )


def _groups(mount: Path, own: Path) -> Iterator[Path]:
    """The groups of this process and all groups around them; a container may see the outermost
    alone.
    """
    try:
        lines = own.read_text().splitlines()
    except OSError:
        lines = []
    yield from (mount, mount / "memory")
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            group = mount / controllers / path.lstrip("/")
            yield from (
                folder
                for folder in (group, *group.parents)
                if folder.is_relative_to(mount / controllers)
            )


def _left_of(group: Path) -> Iterator[int]:
    for limit, used in _GROUP_FILES:
        try:
            yield int((group / limit).read_text()) - int((group / used).read_text())
        except (OSError, ValueError):  # another version, or "max"
            continue


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error, or what it was raised from or during, says that no memory is left.

    A checkpoint that could not be finished for that reason, for instance, only says that it is not
    finished. An OSError speaks for itself: a disk is not memory.
    """
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if isinstance(error, RuntimeError) and any(
        text in str(error).lower() for text in _OUT_OF_MEMORY
    ):
        return True
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return before is not None and is_out_of_memory(before)


def release_memory() -> None:
    """Give back what is no longer used: a Trainer and its parts know each other, and so outlive
    their use.
    """
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
