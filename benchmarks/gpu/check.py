"""What a check is given, and what it finds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch


class Where(NamedTuple):
    """Attributes:
    device: to be checked.
    folder: an empty one to write to.
    """

    device: torch.device
    folder: Path

    @property
    def cuda(self) -> bool:
        return self.device.type == "cuda"


class Finding(NamedTuple):
    """Attributes:
    passed: None if there was nothing to check, or no bound.
    says: it, in a line.
    numbers: what was measured.
    """

    passed: bool | None
    says: str
    numbers: Mapping[str, Any] = {}


NEEDS_CUDA = Finding(None, "only on a GPU")
