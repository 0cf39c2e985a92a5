"""The transforms of `data.augment`, which may have transforms as arguments, as RandomApply does."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from trialstack.core.build import cannot_be_made, named_class
from trialstack.core.errors import UserError
from trialstack.core.origins import is_own

Transform = Callable[[Tensor], Tensor]


def build_transforms(configs: Sequence[Any]) -> list[Transform]:
    """Return the transforms that the list `data.augment` describes.

    Raises:
        UserError: one is no transform, or cannot be made of its arguments.
    """
    return [_built(f"data.augment[{index}]", config) for index, config in enumerate(configs)]


def _built(group: str, config: Mapping[str, Any]) -> Any:
    cls = named_class(group, config, object)
    if not _is_transform(cls):
        raise UserError(
            f"{group}._target_ must name a class of torchvision.transforms, a torch.nn.Module or a "
            f"callable class of your own, got {config['_target_']}"
        )
    arguments = {
        key: _value(f"{group}.{key}", value) for key, value in config.items() if key != "_target_"
    }
    try:
        return cls(**arguments)
    except Exception as error:
        raise cannot_be_made(group, config, error) from error


def _value(group: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        if "_target_" in value:
            return _built(group, value)
        return {key: _value(f"{group}.{key}", inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_value(f"{group}[{index}]", inner) for index, inner in enumerate(value)]
    return value


def _is_transform(cls: type[Any]) -> bool:
    if issubclass(cls, nn.Module) or f"{cls.__module__}.".startswith("torchvision.transforms."):
        return True
    return is_own(cls) and any("__call__" in vars(parent) for parent in cls.__mro__)
