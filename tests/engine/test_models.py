"""The MLP, and how networks are built from configs."""

import pytest
import torch
from torch import nn

from trialstack.core.build import build
from trialstack.core.errors import UserError
from trialstack.engine.models import MLP

SHAPE = (1, 28, 28)


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def first_layer(network: MLP) -> nn.Linear:
    layer = network[1]
    assert isinstance(layer, nn.Linear)
    return layer


@pytest.mark.parametrize(
    ("hidden", "count"), [([128], 101_770), ([300, 100], 266_610), ([], 7_850)]
)
def test_parameter_counts_are_the_articles(hidden: list[int], count: int) -> None:
    assert parameters(MLP(SHAPE, 10, hidden)) == count


def test_images_become_logits() -> None:
    assert MLP((3, 4, 5), 7, [6])(torch.zeros(2, 3, 4, 5)).shape == (2, 7)


def test_weights_are_glorot_uniform_and_biases_zero() -> None:
    layer = first_layer(MLP(SHAPE, 10, [300]))
    bound = (6 / (784 + 300)) ** 0.5
    assert layer.weight.abs().max() <= bound
    assert (
        abs(layer.weight.std() - bound / 3**0.5) < 0.01 * bound
    )  # 235,200 weights: 0.2% is one deviation
    assert not layer.bias.any()


def test_dropout_follows_every_hidden_layer_and_no_other() -> None:
    kinds = [type(layer).__name__ for layer in MLP(SHAPE, 10, [5, 4], dropout=0.2)]
    assert kinds == ["Flatten", "Linear", "ReLU", "Dropout", "Linear", "ReLU", "Dropout", "Linear"]


@pytest.mark.parametrize(
    ("activation", "kind"),
    [
        ("relu", nn.ReLU),
        ("tanh", nn.Tanh),
        ("gelu", nn.GELU),
        ("silu", nn.SiLU),
        ("leaky_relu", nn.LeakyReLU),
        ("elu", nn.ELU),
    ],
)
def test_activations(activation: str, kind: type[nn.Module]) -> None:
    assert isinstance(MLP(SHAPE, 10, [5], activation=activation)[2], kind)


def test_initializers_are_torchs() -> None:
    weight = first_layer(MLP(SHAPE, 10, [300], init="kaiming_normal")).weight
    assert float(weight.detach().std()) == pytest.approx(
        (2 / 784) ** 0.5, rel=0.01
    )  # 235,200 weights: 0.15% is one deviation
    with pytest.raises(UserError, match=r"model\.init .* got 'magic'"):
        MLP(SHAPE, 10, [5], init="magic")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("nowhere.Net", "must name a class that can be imported, got nowhere.Net"),
        ("os.system", "must name a class"),
        (
            "subprocess.Popen",
            "must name a subclass of torch.nn.modules.module.Module, got subprocess.Popen",
        ),
        (None, "must name a class"),
    ],
)
def test_a_target_must_be_a_class_of_the_right_kind(target: str | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build("model", {"_target_": target}, nn.Module)


def test_arguments_that_do_not_fit_are_named() -> None:
    with pytest.raises(
        UserError, match=r"model: torch\.nn\.Flatten cannot be made of these arguments: .*depth"
    ):
        build("model", {"_target_": "torch.nn.Flatten", "depth": 3}, nn.Module)
