"""safetensors: weights by name, for any code that makes the network itself."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import safetensors
import torch
from safetensors.torch import load_file, save
from torch import Tensor

from trialstack.data.image_spec import ImageSpec
from trialstack.engine.eager import Classifier
from trialstack.engine.networks import build_network
from trialstack.run.exported_graph import Probabilities


def encode(classifier: Classifier, metadata: Mapping[str, str]) -> bytes:
    """Return the network's state_dict as a safetensors file with `metadata`."""
    # copies: the format knows no tensors that share memory
    weights = {
        name: tensor.clone(memory_format=torch.contiguous_format)
        for name, tensor in classifier.network.state_dict().items()
    }
    return save(weights, dict(metadata))


def load(file: Path) -> Callable[[Tensor], Tensor]:
    """Return what a file computes with the model that it names: raw images to probabilities."""
    with safetensors.safe_open(file, "pt") as opened:
        values = {key: json.loads(text) for key, text in opened.metadata().items()}
    model, spec = values.pop("model"), ImageSpec.from_primitives(values)
    network = build_network(model, spec)
    network.load_state_dict(load_file(file))
    return Probabilities(network, spec).eval()
