"""Objects from configs: the class that `_target_` names, called with the other keys.

A config may come from anywhere, with a run folder or a checkpoint. So, unlike
`hydra.utils.instantiate`, this makes nothing but the kind of object that is asked for, nothing
nested, and calls no functions.
"""

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from trialstack.core.errors import UserError
from trialstack.core.origins import imported

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
    cls = named_class(group, config, kind)
    arguments = {str(key): value for key, value in config.items() if key != "_target_"}
    try:
        return cls(*args, **{**arguments, **extra})
    except (TypeError, ValueError) as error:
        raise cannot_be_made(group, config, error) from error


def build_all(group: str, configs: Mapping[str, Any], kind: type[T]) -> list[T]:
    """Return an instance of each of a group's configs.

    Raises:
        UserError: as `build`, or a class refuses its arguments in another way.
    """
    check_all(group, configs, kind)
    built = []
    for name, config in configs.items():
        try:
            built.append(build(f"{group}.{name}", config, kind))
        except (UserError, OSError):
            raise
        except (
            Exception
        ) as error:  # such as Lightning's, or that of a package that is not installed
            raise cannot_be_made(f"{group}.{name}", config, error) from error
    return built


def check_all(group: str, configs: Mapping[str, Any], kind: type[Any]) -> None:
    """Check that each of a group's configs names a subclass of `kind`, and nothing nested.

    Raises:
        UserError: one does not.
    """
    for name, config in configs.items():
        named_class(f"{group}.{name}", config, kind)
        for path, target in _targets(config):
            if path:
                raise UserError(
                    f"{group}.{name}{path} must be a plain value, got _target_={target}; leave it "
                    "out"
                )


def named_class(group: str, config: Any, kind: type[T]) -> type[T]:
    """Return the class that `config["_target_"]` names, a subclass of `kind`.

    Raises:
        UserError: there is no such class, it needs what is not installed, it is not of that kind,
            or the config has other keys of Hydra's.
    """
    if not isinstance(config, Mapping):
        raise UserError(
            f"{group} must have a _target_ and the arguments of that class, got {config!r}; try "
            f"~{group}"
        )
    target = config.get("_target_")
    special = next(
        (key for key in map(str, config) if key != "_target_" and key[0] == key[-1] == "_"), None
    )
    if special is not None:
        raise UserError(
            f"{group} must have _target_ and the arguments of that class, got {special}; leave it "
            "out"
        )
    try:
        cls = imported(str(target))
        if not isinstance(cls, type):
            raise ImportError(f"it is a {type(cls).__name__}")
    except UserError:  # of a module that needs a package which is not installed
        raise
    except (Exception, SystemExit) as error:
        raise UserError(
            f"{group}._target_ must name a class that can be imported, got {target} "
            f"({_last_line(error)})"
        ) from error
    if not issubclass(cls, kind):
        raise UserError(
            f"{group}._target_ must name a subclass of {kind.__module__}.{kind.__name__}, got "
            f"{target}"
        )
    return cls


def cannot_be_made(group: str, config: Mapping[str, Any], error: Exception) -> UserError:
    """Return the error that says that a class does not take its arguments."""
    return UserError(
        f"{group}: {config['_target_']} cannot be made of these arguments: {_last_line(error)}"
    )


def _targets(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every `_target_` in a config, with where it is."""
    if isinstance(value, Mapping):
        if "_target_" in value:
            yield path, value["_target_"]
        for key, inner in value.items():
            yield from _targets(inner, f"{path}.{key}")
    elif isinstance(value, (list, tuple)):
        for index, inner in enumerate(value):
            yield from _targets(inner, f"{path}[{index}]")


def _last_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
