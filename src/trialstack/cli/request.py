"""What is asked of a trained run by `evaluate.py`, `predict.py` and `export.py`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from trialstack.core import layout
from trialstack.core.errors import UserError
from trialstack.core.groups import ROOT
from trialstack.core.identity import flat
from trialstack.core.rule import Rule, one_of, or_null
from trialstack.core.unread import check_read


def _file(*endings: str, remedy: str) -> Rule:
    return Rule(
        f"a file that ends in {' or '.join(endings)}",
        lambda x: x is None or str(x).endswith(endings),
        remedy,
    )


REQUEST_RULES: dict[str, Rule] = {
    "data.root": or_null(ROOT),
    "accelerator": one_of("auto", "cpu", "gpu"),
    "split": one_of("test", "val"),
    "index": Rule(
        "a list of sample numbers from 0, or all",
        lambda x: x == "all" or all(type(i) is int and i >= 0 for i in as_list(x)),
        "[0,1,2]",
    ),
    "images": Rule(
        "a list of files",
        lambda x: all(isinstance(file, str) for file in as_list(x)),
        "[shoe.png]",
    ),
    "invert": Rule("true, false or auto", lambda x: x == "auto" or type(x) is bool, "auto"),
    "output": _file(".csv", ".json", remedy="labels.csv"),
}

FORMAT = one_of(*layout.EXPORTED)


def as_list(value: Any) -> list[Any]:
    """Return the items of a list, or a single value as a list of one; of null, none."""
    if value is None:
        return []
    return list(value) if isinstance(value, (list, ListConfig)) else [value]


def check_request(config: DictConfig) -> None:
    """Check the config of `evaluate.py` or `predict.py`.

    Raises:
        UserError: a value breaks its rule, or not exactly one of `index` and `images` is given, or
            there is no folder for `output`.
    """
    _check(config, REQUEST_RULES)
    if "index" in config and bool(as_list(config.index)) == bool(as_list(config.images)):
        got = "both" if as_list(config.index) else "neither"
        raise UserError(f"either index=[0,1,2] or images=[a.png,...] is needed, got {got}")


def check_export(config: DictConfig) -> None:
    """Check the config of `export.py`.

    Raises:
        UserError: a value breaks its rule, or there is no folder for `output`.
    """
    FORMAT.check("format", config.format)
    file = layout.EXPORTED[config.format]
    output = _file(file.suffix, remedy=file.name)
    _check(config, {"data.root": or_null(ROOT), "format": FORMAT, "output": output})


def _check(config: DictConfig, rules: Mapping[str, Rule]) -> None:
    values: Any = OmegaConf.to_container(config, resolve=True)
    check_read(values, ("run", "data", *rules))
    check_read(values["data"], ("root",), "data.")
    given = flat(values)
    for key, rule in rules.items():
        if key in given:
            rule.check(key, given[key])
    folder = Path(str(values.get("output") or "")).parent
    if not folder.is_dir():
        raise UserError(
            f"cannot write output={values['output']}: there is no folder {folder}; try "
            f"output={rules['output'].remedy}"
        )
