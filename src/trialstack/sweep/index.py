"""`sweep.json`: which trial of a sweep is in which folder, by the content of its config."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trialstack.core import layout
from trialstack.core.atomic_files import replaced
from trialstack.core.errors import UserError
from trialstack.core.identity import content
from trialstack.core.inside import is_inside
from trialstack.core.objective import METRIC
from trialstack.core.schema import is_learned
from trialstack.core.untrusted import Damaged, fields, json_fields

REPEATED = ("seed", "data.fold")
"""Keys in which the trials of a row may differ."""

FILES = tuple(path.name for path in layout.OF_SWEEP)
"""What a sweep writes into its folder besides its trials: where its index is, they are its own."""

Choice = str | list[str] | None
"""The option of a config group, or several: `logger=[tensorboard,csv]`."""

_TYPES = {"objective": str, "common": dict[str, Any], "trials": dict[str, Any]}

_PARTS = {"content": dict[str, Any], "choices": dict[str, Choice], "overrides": list[str]}
"""Of a trial's entry, in the file."""

_MOST = 2**28
"""Bytes of a `sweep.json`; it has some 200 a trial."""


@dataclass(frozen=True)
class Indexed:
    """A trial in the index.

    Attributes:
        content: its config as values by dotted key, without what says where and how it is run.
        choices: the option of every config group, or several.
        overrides: keys that its command line changed.
    """

    content: dict[str, Any]
    choices: dict[str, Choice]
    overrides: list[str]

    @classmethod
    def of(
        cls, values: Mapping[str, Any], choices: Mapping[str, Choice], overrides: Iterable[str]
    ) -> "Indexed":
        """Return the entry of a resolved config, `hydra.runtime.choices` and
        `hydra.overrides.task`.
        """
        of_job = {
            group: option if option is None or isinstance(option, str) else list(option)
            for group, option in choices.items()
            if not group.startswith("hydra/")
        }
        return cls(
            content(values),
            of_job,
            [line.lstrip("+~").partition("=")[0].partition("@")[0] for line in overrides],
        )

    def value(self, key: str) -> Any:
        """Return the value of a key, or the option of a config group."""
        return self.content[key] if key in self.content else self.choices.get(key)

    @property
    def key(self) -> str:
        return json.dumps(self.content, sort_keys=True)

    @property
    def row(self) -> str:
        """The key of trials that differ in what is repeated alone."""
        return json.dumps(self.content | dict.fromkeys(REPEATED), sort_keys=True)


class SweepIndex:
    """The trials of a sweep.

    Attributes:
        objective: what they are compared by.
        trials: by name of their folder in the sweep's.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / layout.INDEX
        self.objective = ""
        self.trials: dict[str, Indexed] = {}

    @classmethod
    def read(cls, folder: Path) -> "SweepIndex":
        """Return the index in a sweep's folder, an empty one if there is none.

        Raises:
            UserError: it is damaged.
        """
        index = cls(folder)
        try:
            values = json_fields(index.file, _TYPES, _MOST)
            index.objective, common = values["objective"], fields(values["common"], _PARTS)
            for name, entry in values["trials"].items():
                index.check(name)
                own = fields(entry, _PARTS)
                index.trials[name] = Indexed(
                    common["content"] | own["content"],
                    common["choices"] | own["choices"],
                    own["overrides"],
                )
            if not index.trials:
                raise Damaged("has no trials")
            if not METRIC.holds(index.objective):
                raise Damaged("has a wrong value of objective")
        except FileNotFoundError:
            pass
        except (Damaged, KeyError) as error:
            problem = error if isinstance(error, Damaged) else f"has no {error.args[0]}"
            raise UserError(
                f"{index.file} {problem}; restore it from a copy, or use another sweep=NAME"
            ) from error
        return index

    def check(self, name: str) -> None:
        """Check the name of a trial's folder.

        Raises:
            UserError: it leads out of the sweep's folder, or is a name that the sweep itself needs.
        """
        if not is_inside(name, self.folder) or name.startswith(".") or Path(name).parts[0] in FILES:
            raise UserError(
                f"a trial's folder must lie in {self.folder} and bear no name of the sweep's own "
                f"files, got {name!r}; leave out hydra.sweep.subdir, or mend {self.file.name}"
            )

    def claim(self) -> None:
        """Check that the folder of a new sweep holds nothing that the sweep would write over.

        Raises:
            UserError: it does.
        """
        for name in FILES:
            if name != layout.MULTIRUN.name and os.path.lexists(
                self.folder / name
            ):  # which Hydra's sweepers write
                raise UserError(
                    f"{self.folder / name} is there, and no sweep's; move it, or use another "
                    "sweep=NAME or hydra.sweep.dir=FOLDER"
                )

    def write(self) -> None:
        """Write it; what all trials have in common is there once."""
        self.folder.mkdir(parents=True, exist_ok=True)
        parts = ("content", "choices")
        common = {
            part: _shared_items([getattr(trial, part) for trial in self.trials.values()])
            for part in parts
        }
        trials = {
            name: {part: _without(getattr(trial, part), common[part]) for part in parts}
            | {"overrides": trial.overrides}
            for name, trial in self.trials.items()
        }
        values = {"objective": self.objective, "common": common, "trials": trials}
        with replaced(self.file) as temporary:
            temporary.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")

    def place(self, trials: Sequence[Indexed], wanted: Sequence[str]) -> list[str]:
        """Give every trial a folder: that of the same content, else the wanted one, else the next
        that is free.

        Args:
            trials: no two of the same content.
            wanted: names of their folders, where no other trial is there.
        """
        there = {trial.key: name for name, trial in self.trials.items()}
        placed: list[str] = []
        for trial, wish in zip(trials, wanted, strict=True):
            if trial.key not in there:
                self.check(wish)
            placed.append(there.get(trial.key) or self._free(wish))
            self.trials[placed[-1]] = trial
        return placed

    def _free(self, wish: str) -> str:
        number, name = (int(wish) if wish.isdecimal() else 1), wish
        while name in self.trials or os.path.lexists(self.folder / name):
            number += 1
            name = str(number) if wish.isdecimal() else f"{wish}-{number}"
        return name


def varying(trials: list[Indexed]) -> list[str]:
    """Return the keys that tell rows of trials apart: overridden ones, and others where those do
    not; none that says only how a trial is run.
    """
    overridden = dict.fromkeys(
        key
        for trial in trials
        for key in trial.overrides
        if key not in REPEATED and is_learned(key)
    )
    keys = [
        key for key in overridden if len({json.dumps(trial.value(key)) for trial in trials}) > 1
    ]
    alike: dict[str, list[Indexed]] = {}
    for trial in trials:
        alike.setdefault(json.dumps([trial.value(key) for key in keys]), []).append(trial)
    others = dict.fromkeys(key for trials in alike.values() for key in _different(trials))
    return [*keys, *(key for key in others if key not in REPEATED)]


def _different(trials: list[Indexed]) -> Iterable[str]:
    first, *others = trials
    keys = dict.fromkeys(key for trial in trials for key in trial.content)
    return [
        key
        for key in keys
        if any(json.dumps(t.value(key)) != json.dumps(first.value(key)) for t in others)
    ]


def _shared_items(dicts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    first, *others = dicts
    return {
        key: value
        for key, value in first.items()
        if all(_same(other, key, value) for other in others)
    }


def _without(values: Mapping[str, Any], common: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in common}


def _same(values: Mapping[str, Any], key: str, value: Any) -> bool:
    return key in values and type(values[key]) is type(value) and bool(values[key] == value)
