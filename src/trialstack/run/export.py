"""A run's best weights as a file for other programs, which gives the checkpoint's probabilities.

Shapes: n images.
"""

import copy
import json
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from trialstack.core.atomic_files import replaced
from trialstack.core.errors import UserError
from trialstack.core.sizes import EVALUATION_BATCH
from trialstack.engine.eager import Classifier
from trialstack.run import restore
from trialstack.run.evaluation import predict_logits

EXACT = 1e-6
"""Difference of a probability that is none."""

ROUNDINGS = 5
"""How much more than float32 itself takes the checkpoint from float64 another program's float32 may
take an exported file from the checkpoint.
"""


class Comparison(NamedTuple):
    """An exported file beside its checkpoint.

    Attributes:
        difference: the largest of a probability, over the test set.
        bound: that is allowed.
    """

    difference: float
    bound: float


class Differs(Exception):
    """An exported file gives other probabilities than the checkpoint. The message is one line."""


class Format(Protocol):
    """A module of `export_formats`."""

    def encode(self, classifier: Classifier, metadata: Mapping[str, str]) -> bytes: ...

    def load(self, file: Path) -> Callable[[Tensor], Tensor]: ...


def export(folder: Path, format_name: str, file: Path, root: str | None) -> Comparison:
    """Export a run's best weights to `file`, whose place is taken only by one that gives the
    checkpoint's probabilities.

    Args:
        folder: the run folder.
        format_name: of a module of `export_formats`.
        file: that is written.
        root: where the dataset lies now; None for where it lay.

    Raises:
        UserError: a package, the checkpoint or the data is missing, or the model has no graph.
        OSError: the file cannot be written.
        Differs: by more than rounding.
    """
    module = _imported(format_name)
    classifier = restore.best_classifier(folder)
    images = restore.load_test_images(folder, root)
    encoded = module.encode(classifier, _metadata(classifier))
    with replaced(file) as temporary:
        temporary.write_bytes(encoded)
        comparison = compare(classifier, module.load(temporary), images)
        if not comparison.difference <= comparison.bound:
            raise Differs(
                f"{file} is not written: its probabilities differ from the checkpoint's by "
                f"{comparison.difference:.2e}, bound: {comparison.bound:.2e}; this is a defect"
            )
    return comparison


def _imported(format_name: str) -> Format:
    try:
        module: Format = import_module(f"trialstack.run.export_formats.{format_name}")
    except ModuleNotFoundError as error:
        raise UserError(
            f"format={format_name} needs {error.name}; pip install 'trialstack[export]' (in a "
            "clone: -e '.[export]')"
        ) from error
    return module


def _metadata(classifier: Classifier) -> dict[str, str]:
    """What the images and the classes are, and the `model` group, each as JSON."""
    values = {**classifier.spec.primitives(), "model": classifier.model_group}
    return {key: json.dumps(value) for key, value in values.items()}


@torch.inference_mode()
def compare(
    classifier: Classifier, exported: Callable[[Tensor], Tensor], images: Tensor
) -> Comparison:
    """Classify raw images, uint8 [n, channels, height, width], with a checkpoint and a file."""
    normalized = classifier.spec.normalize(images)
    expected = predict_logits(classifier, normalized).float().softmax(1)
    got = torch.cat([exported(minibatch) for minibatch in images.split(EVALUATION_BATCH)])
    difference = (got - expected).abs().max().item()
    if difference <= EXACT:
        return Comparison(difference, EXACT)
    rounding = _rounding(classifier, normalized, expected)
    return Comparison(difference, max(EXACT, ROUNDINGS * rounding))


def _rounding(classifier: Classifier, normalized: Tensor, probabilities: Tensor) -> float:
    """How far float32 has taken the checkpoint's own probabilities from float64's."""
    try:
        logits = predict_logits(copy.deepcopy(classifier).double(), normalized.double())
    except RuntimeError:  # the network's code makes float32 of its own, which torch does not mix
        return 0.0
    return (probabilities - logits.softmax(1)).abs().max().item()
