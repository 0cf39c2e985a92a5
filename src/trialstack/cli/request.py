"""What is asked of a trained run on the command line of `evaluate.py` and `predict.py`."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from trialstack.core.errors import UserError
from trialstack.core.groups import ROOT
from trialstack.core.identity import flat
from trialstack.core.rule import Rule, one_of, or_null
from trialstack.core.unread import check_read

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
    "output": Rule(
        "a file that ends in .csv or .json",
        lambda x: x is None or str(x).endswith((".csv", ".json")),
        "labels.csv",
    ),
}


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
    values: Any = OmegaConf.to_container(config, resolve=True)
    check_read(values, ("run", "data", *REQUEST_RULES))
    check_read(values["data"], ("root",), "data.")
    given = flat(values)
    for key, rule in REQUEST_RULES.items():
        if key in given:
            rule.check(key, given[key])
    if "index" in config and bool(as_list(config.index)) == bool(as_list(config.images)):
        got = "both" if as_list(config.index) else "neither"
        raise UserError(f"either index=[0,1,2] or images=[a.png,...] is needed, got {got}")
    folder = Path(str(values.get("output") or "")).parent
    if not folder.is_dir():
        raise UserError(
            f"cannot write output={values['output']}: there is no folder {folder}; try "
            "output=labels.csv"
        )
