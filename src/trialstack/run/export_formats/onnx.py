"""ONNX: a graph that onnxruntime, and much else, runs without torch."""

from collections.abc import Callable, Mapping
from pathlib import Path

import onnxruntime
import onnxscript  # noqa: F401  # torch.onnx needs it
import torch
from torch import Tensor

from trialstack.engine.eager import Classifier
from trialstack.run.exported_graph import INPUT, OUTPUT, cannot_export, traced

_ERRORS_ONLY = 3


def encode(classifier: Classifier, metadata: Mapping[str, str]) -> bytes:
    """Return an ONNX model with `metadata` as its custom metadata.

    Raises:
        UserError: its network cannot be traced, or has operations that ONNX lacks.
    """
    graph = traced(classifier)
    try:
        program = torch.onnx.export(
            graph, input_names=[INPUT], output_names=[OUTPUT], dynamo=True, verbose=False
        )
    except Exception as error:  # the exporter's own, and those of what it calls
        raise cannot_export(classifier.model_group, error) from error
    assert program is not None
    program.model.metadata_props.update(metadata)
    encoded: bytes = program.model_proto.SerializeToString()
    return encoded


def load(file: Path) -> Callable[[Tensor], Tensor]:
    """Return what a file computes on the CPU: raw images to probabilities."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run([OUTPUT], {INPUT: images.numpy()})[0])
