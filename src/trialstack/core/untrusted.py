"""Files that may be damaged, or someone else's: only so much of them is read, and no value of a
wrong type believed.
"""

import json
import logging
import os
import stat
from collections.abc import Mapping
from functools import cache
from io import StringIO
from pathlib import Path
from types import UnionType
from typing import Any, BinaryIO, get_args, get_origin

import yaml
from omegaconf import DictConfig, ListConfig, OmegaConf

log = logging.getLogger(__name__)

LARGEST = 1e150
"""Larger numbers are no measurements: of smaller ones, means and deviations are finite."""

_CONFIG, _VALUES = 200_000, 10_000
"""Bytes of a config, and values in it; this project's have some 3,000 and 100."""

_DEPTH = 50
"""Of lists in lists and mappings in mappings, in JSON and YAML."""


class Damaged(ValueError):
    """A file is not what it should be.

    The message continues a sentence that begins with its name.
    """


def opened(file: Path) -> BinaryIO:
    """Open a file to be read.

    Raises:
        FileNotFoundError: there is none.
        Damaged: it is a pipe, a device or a folder, of which the first two may never end, or is not
            readable.
    """
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            raise Damaged("is no regular file")
        return file.open("rb")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Damaged(f"cannot be read ({error.strerror})") from error


def text(file: Path, most: int) -> str:
    """Return a text of at most `most` bytes.

    Raises:
        FileNotFoundError: there is none.
        Damaged: it is longer, or no text.
    """
    with opened(file) as stream:
        content = stream.read(most + 1)
    if len(content) > most:
        raise Damaged(f"is larger than {most:,} bytes")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise Damaged("is not UTF-8") from None


def json_fields(file: Path, types: Mapping[str, Any], most: int) -> dict[str, Any]:
    """Return the fields of a JSON object that `types` has, as far as they are there.

    Args:
        file: at most of `most` bytes.
        types: annotations by name, as `conforms` knows them.
        most: bytes.

    Raises:
        FileNotFoundError: there is none.
        Damaged: it is no JSON object, or a field is of another type.
    """
    try:
        values = json.loads(text(file, most), parse_int=_int)
        json.dumps(
            values, ensure_ascii=False
        ).encode()  # JSON can spell halves of characters, which nothing can write
    except Damaged:
        raise
    except ValueError as error:
        raise Damaged(f"is no JSON ({error})") from error
    except RecursionError:
        raise Damaged("is nested too deeply") from None
    return fields(values, types)


def _int(digits: str) -> int:
    number = int(digits)
    if abs(number) >= 2**63:
        raise ValueError("a number of more than 64 bits")
    return number


def fields(values: Any, types: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a JSON object that `types` has, as far as they are there.

    Raises:
        Damaged: it is no object, or a field is of another type.
    """
    if not isinstance(values, dict):
        raise Damaged("is no JSON object")
    there = {name: values[name] for name in types if name in values}
    for name, value in there.items():
        if not conforms(value, types[name]):
            raise Damaged(f"has a wrong value of {name}")
    return there


def conforms(value: Any, kind: Any) -> bool:
    """Tell whether a value of a JSON file has a type: str, int, float (finite), None, Any, a list,
    dict or union.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return any(conforms(value, argument) for argument in arguments)
    if origin is list:
        return isinstance(value, list) and all(conforms(item, arguments[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(
            conforms(item, arguments[1]) for item in value.values()
        )
    if kind is Any:
        return _is_shallow(value)
    if kind is float:
        return type(value) in (int, float) and abs(value) <= LARGEST
    return type(value) is kind


def _is_shallow(value: Any, depth: int = _DEPTH) -> bool:
    if not isinstance(value, (list, dict)):
        return True
    items = value.values() if isinstance(value, dict) else value
    return depth > 0 and all(_is_shallow(item, depth - 1) for item in items)


def config(file: Path) -> DictConfig | ListConfig:
    """Return a config, its interpolations unresolved.

    Raises:
        FileNotFoundError: there is none.
        Damaged: it is no config as this project writes them; those have no aliases, which can make
            a few lines endless.
    """
    content, depth, values = text(file, _CONFIG), 0, 0
    try:
        for event in yaml.parse(content, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(
                event, yaml.CollectionEndEvent
            )
            values += isinstance(event, yaml.NodeEvent)
            if isinstance(event, yaml.AliasEvent) or depth > _DEPTH or values > _VALUES:
                raise Damaged(
                    "is no config of a run: it has YAML aliases, too many values, or is nested "
                    "too deeply"
                )
        return OmegaConf.load(StringIO(content))
    except Damaged:
        raise
    except Exception as error:
        raise Damaged(f"cannot be read ({type(error).__name__})") from error


def warn(file: Path, problem: Damaged, consequence: str) -> None:
    """Say once, in one line, what is wrong with a file and what follows from it."""
    _warn(file.absolute(), f"{problem}; {consequence}")


@cache
def _warn(file: Path, said: str) -> None:
    log.warning("%s %s", os.path.relpath(file), said)
