"""Objects from configs: the class that `_target_` names, called with the other keys.

Unlike `hydra.utils.instantiate`, `build` makes only the kind of object that is asked for, and nothing nested, so that a
checkpoint's configs can be built without trusting them.
"""

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from hydra.errors import HydraException
from hydra.utils import get_class, instantiate

from trialstack.errors import UserError

T = TypeVar("T")


def build(group: str, config: Mapping[str, Any], kind: type[T], *args: Any, **extra: Any) -> T:
    """Return an instance of `config["_target_"]`, a subclass of `kind`.

    Args:
        group: the config group, for messages.
        config: `_target_` and keyword arguments.
        kind: what it must be.
        *args: passed on.
        **extra: passed on; they win over the config's.

    Raises:
        UserError: there is no such class, it is not of that kind, or does not take these arguments.
    """
    arguments = {str(key): value for key, value in config.items() if key != "_target_"}
    target = config.get("_target_")
    try:
        cls = get_class(str(target))
    except Exception as error:
        raise UserError(
            f"{group}._target_ must name a class that can be imported, got {target} ({_last_line(error)})"
        ) from error
    if not issubclass(cls, kind):
        raise UserError(f"{group}._target_ must name a subclass of {kind.__module__}.{kind.__name__}, got {target}")
    try:
        return cls(*args, **{**arguments, **extra})
    except (TypeError, ValueError) as error:
        raise UserError(f"{group}: {target} cannot be made of these arguments: {_last_line(error)}") from error


def instantiate_all(group: str, configs: Iterable[Any]) -> list[Any]:
    """Return Hydra's instances of configs that come from the user's own files and command line.

    Raises:
        UserError: one cannot be made.
    """
    try:
        return [instantiate(config) for config in configs]
    except HydraException as error:
        raise UserError(f"{group}: {' '.join(str(error).split())}") from error


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
