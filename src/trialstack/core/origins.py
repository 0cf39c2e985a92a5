"""Where the code of a dotted name lies, found out before any of it runs: an import runs what it
imports.
"""

import importlib
import os
import sys
import sysconfig
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

from trialstack.core import layout


def imported(name: str) -> Any:
    """Return what a dotted name leads to.

    Two kinds of modules are not imported for it: those of the standard library, which has nothing
    that a config could name and modules that open a browser; and those in folders, which a run
    folder may be, unless they are packages without runs.

    Raises:
        ImportError: there is no such thing, or its module is of these kinds.
        Exception: what its module raises.
    """
    parts = name.split(".")
    depth = _depth(parts)
    module = ".".join(parts[:depth])
    value = importlib.import_module(module)
    for part in parts[depth:]:
        if not hasattr(value, part):
            raise ImportError(f"{module} has no {'.'.join(parts[depth:])}")
        value = getattr(value, part)
    return value


def is_own(cls: type[Any]) -> bool:
    """Tell whether the user wrote a class: it is neither of the standard library nor of an
    installed package.
    """
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    return file is not None and not _is_standard(Path(file)) and not _is_installed(Path(file))


def _depth(parts: list[str]) -> int:
    """How many parts of a name are that of its module."""
    path: list[str] | None = None
    for depth in range(1, len(parts)):
        module = ".".join(parts[:depth])
        if module in sys.modules:
            locations = getattr(sys.modules[module], "__path__", None)
        else:
            spec = _found(module, path)
            if spec is None and depth == 1:
                raise ImportError(f"No module named {module!r}")
            if spec is None:
                return depth - 1
            _check(spec)
            locations = spec.submodule_search_locations
        if locations is None:
            return depth
        path = list(locations)
    return len(parts) - 1


def _found(module: str, path: list[str] | None) -> ModuleSpec | None:
    """How a module would be imported from the folders of its package."""
    specs = (finder.find_spec(module, path) for finder in sys.meta_path)
    return next((spec for spec in specs if spec is not None), None)


def _check(spec: ModuleSpec) -> None:
    """Raise ImportError if a module is not to be imported."""
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    for folder in folders:
        if (
            not _is_installed(folder)
            and not _is_standard(folder)
            and (not spec.has_location or _has_runs(folder))
        ):
            reason = "has runs in it" if spec.has_location else "has no __init__.py"
            raise ImportError(f"{folder} {reason}, so it is not taken for a package")
    if not folders and (not spec.has_location or _is_standard(Path(str(spec.origin)))):
        raise ImportError(f"{spec.name} is of the standard library")


def _has_runs(folder: Path) -> bool:
    return (folder / layout.HYDRA).exists() or any(folder.glob(f"*/{layout.HYDRA}"))


def _is_standard(path: Path) -> bool:
    return path.is_relative_to(sysconfig.get_path("stdlib")) and not _is_installed(path)


def _is_installed(path: Path) -> bool:
    """Whether a path lies where packages are installed, each with a folder about it beside it."""
    roots = [
        Path(os.path.abspath(root))
        for root in sys.path
        if path.is_relative_to(os.path.abspath(root))
    ]
    return any(next(root.glob("*.dist-info"), None) is not None for root in roots)
