"""torch.export: a graph that torch runs without the model's code."""

import io
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from trialstack.engine.eager import Classifier
from trialstack.run.exported_graph import traced


def encode(classifier: Classifier, metadata: Mapping[str, str]) -> bytes:
    """Return a `.pt2` file; each entry of `metadata` is one of its extra files."""
    buffer = io.BytesIO()
    torch.export.save(traced(classifier), buffer, extra_files=dict(metadata))
    return buffer.getvalue()


def load(file: Path) -> Callable[[Tensor], Tensor]:
    """Return what a file computes: raw images to probabilities."""
    # as a stream: torch takes no names but *.pt2
    return torch.export.load(io.BytesIO(file.read_bytes())).module()
