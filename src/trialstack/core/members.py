"""Families of classes, a file each: a file in the family's package is all that it takes to add
one.
"""

import importlib
import inspect
import pkgutil
from types import ModuleType
from typing import TypeVar

T = TypeVar("T")


def members(package: ModuleType, base: type[T]) -> dict[str, list[type[T]]]:
    """Return the subclasses of `base` that each module of `package` defines, by the module's
    name.
    """
    found: dict[str, list[type[T]]] = {}
    for module in pkgutil.iter_modules(package.__path__):
        imported = importlib.import_module(f"{package.__name__}.{module.name}")
        classes = [
            cls for cls in vars(imported).values() if inspect.isclass(cls) and issubclass(cls, base)
        ]
        found[module.name] = [cls for cls in classes if cls.__module__ == imported.__name__]
    return found
