"""Networks.

Any nn.Module that is built from `(image_shape, num_classes, **its config)` fits beside the MLP.
"""

from collections.abc import Sequence
from itertools import pairwise
from math import prod

from torch import Tensor, nn

from trialstack.core.errors import UserError

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
}


class MLP(nn.Sequential):
    """Fully connected layers: images [B, channels, height, width] to logits [B, C].

    Every hidden layer is followed by its activation and, where `dropout` is above 0, by dropout.
    Biases start at 0.

    Args:
        image_shape: channels, height and width.
        num_classes: C.
        hidden: widths of the hidden layers; `[]` is logistic regression.
        dropout: probability that a hidden unit is dropped in training.
        activation: of `ACTIVATIONS`, with torch's defaults.
        init: initializer of the weights, a name of torch.nn.init without its underscore.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        num_classes: int,
        hidden: Sequence[int] = (),
        dropout: float = 0.0,
        activation: str = "relu",
        init: str = "xavier_uniform",
    ) -> None:
        widths = [prod(image_shape), *hidden]
        layers: list[nn.Module] = [nn.Flatten()]
        for inputs, outputs in pairwise(widths):
            layers += [nn.Linear(inputs, outputs), ACTIVATIONS[activation]()]
            layers += [nn.Dropout(dropout)] if dropout > 0 else []
        super().__init__(*layers, nn.Linear(widths[-1], num_classes))
        self.widths = [*widths, num_classes]
        self.dropout = dropout
        self.activation = activation
        initialize = getattr(nn.init, f"{init}_", None)
        if initialize is None:
            raise UserError(
                f"model.init must be the name of an initializer of torch.nn.init, got {init!r}; "
                "try model.init=xavier_uniform"
            )
        for layer in self:
            if isinstance(layer, nn.Linear):
                initialize(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = super().forward(images)
        return logits
