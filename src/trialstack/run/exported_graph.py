"""What is exported of a classifier: raw images to probabilities, as a graph of torch.

Shapes: n images, C classes.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from trialstack.core.errors import UserError
from trialstack.data.image_spec import ImageSpec
from trialstack.engine.eager import Classifier

INPUT, OUTPUT = "images", "probabilities"


class Probabilities(nn.Module):
    """Raw images, uint8 [n, channels, height, width], to probabilities [n, C]."""

    def __init__(self, network: nn.Module, spec: ImageSpec) -> None:
        super().__init__()
        self.network, self.spec = network, spec

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(self.spec.normalize(images))
        return logits.float().softmax(1)


def traced(classifier: Classifier) -> ExportedProgram:
    """Return the graph of a classifier in evaluation mode, for any number of images.

    Raises:
        UserError: torch.export cannot trace its network.
    """
    spec = classifier.spec
    images = torch.zeros(2, *spec.shape, dtype=torch.uint8)
    try:
        return torch.export.export(
            Probabilities(classifier.network, spec).eval(),
            (images,),
            dynamic_shapes=({0: Dim("n")},),
        )
    except Exception as error:  # whatever the network's code raises when it is traced
        raise cannot_export(classifier.model_group, error) from error


def cannot_export(model: dict[str, Any], error: Exception) -> UserError:
    """Return the error that says that there is no graph of a model, and what there is instead."""
    line = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return UserError(
        f"model: {model.get('_target_')} cannot be exported as a graph ({line}); "
        "format=safetensors exports its weights"
    )
