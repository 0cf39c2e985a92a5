"""What a `model` group names: a network, or a LightningModule of the user's own, which trains
itself.
"""

import inspect
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningModule
from torch import nn

from trialstack.core.build import build, named_class
from trialstack.data.image_spec import ImageSpec


def trains_itself(model: Mapping[str, Any]) -> bool:
    """Tell whether a `model` group names a LightningModule.

    Raises:
        UserError: it names no nn.Module.
    """
    return issubclass(named_class("model", model, nn.Module), LightningModule)


def has_own(model: Mapping[str, Any], method: str) -> bool:
    """Tell whether the class of a `model` group has a method in the place of LightningModule's."""
    cls = named_class("model", model, nn.Module)
    return getattr(cls, method, None) is not getattr(LightningModule, method)


def of_images(model: Mapping[str, Any], shape: Any = (), classes: int = 0) -> dict[str, Any]:
    """Return what a class is made with besides its group: of these a LightningModule takes what its
    `__init__` names.
    """
    arguments = {"image_shape": shape, "num_classes": classes}
    if not trains_itself(model):
        return arguments
    taken = inspect.signature(named_class("model", model, nn.Module)).parameters
    return {name: value for name, value in arguments.items() if name in taken}


def build_network(model: Mapping[str, Any], spec: ImageSpec) -> nn.Module:
    """Return a network for images and classes, with initial weights of torch's random numbers.

    Raises:
        UserError: there is no such class, or it does not take its arguments.
    """
    extra = of_images(model, spec.shape, len(spec.class_names))
    return build("model", model, nn.Module, **extra)
