"""What a trial leaves: `result.json`."""

import importlib.metadata
import json
import math
import platform
import subprocess
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

from trialstack.core import layout
from trialstack.core.atomic_files import replaced
from trialstack.core.untrusted import Damaged, json_fields, warn
from trialstack.run.status import Status

_MOST = 2**24
"""Bytes of a `result.json`; it has some 2,000."""


@dataclass(frozen=True)
class Result:
    """The content of `result.json`, and where that is.

    Attributes:
        folder: of the run, absolute; the file is known by it, and does not say it.
        status: how it ended.
        reason: why it is not completed, or ended early.
        rung: number of the rung at which it was stopped, from 1.
        objective: the best epoch's value of the trial's objective.
        metrics: `train/*` and `val/*` of the best epoch, `test/*` of best.ckpt.
        best_epoch: counted from 1.
        epochs: how many were trained.
        engine: that trained it.
        stack_size: how many trials trained together.
        parameters: of the network.
        seconds: of the last session, of the whole stack: `startup` (imports and composition),
            `data`, `training`, `validation`, `logging`, `checkpoints`, `test`, `total`; `fit` is
            Trainer.fit with what is in it of these, `earlier` the trial's own share of the epochs
            of sessions before.
        versions: of Python and the packages that matter.
        device: that trained it.
        host: whose device that is.
        job: what a scheduler called the process's job; None without one.
        tf32: whether that rounded what it multiplied.
        git: commit of the working directory, with `-dirty` where it had changes.
        data: name and checksums.
        overrides: of the command line.
        origin: run folder whose weights it began with, or that it continues.
    """

    folder: Path
    status: Status = Status.FAILED
    reason: str | None = None
    rung: int | None = None
    objective: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    best_epoch: int | None = None
    epochs: int = 0
    engine: str = ""
    stack_size: int = 1
    parameters: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    device: str = ""
    host: str = ""
    job: str | None = None
    tf32: bool = False
    git: str | None = None
    data: dict[str, Any] = field(default_factory=dict)
    overrides: list[str] = field(default_factory=list)
    origin: str | None = None

    @classmethod
    def read(cls, folder: Path) -> "Result | None":
        """Return the result in a run folder, or None if there is none, or one that is damaged,
        which is said.
        """
        file = folder / layout.RESULT
        types = {item.name: item.type for item in fields(cls) if item.name != "folder"} | {
            "status": str,
            "metrics": dict[str, float | None],
        }
        try:
            values = json_fields(file, types, _MOST)
            if values.get("status") not in list(Status):
                raise Damaged(f"has none of these as its status: {', '.join(Status)}")
            if values.get("stack_size", 1) < 1:
                raise Damaged("has a wrong value of stack_size")
        except FileNotFoundError:
            return None
        except Damaged as problem:
            warn(file, problem, "the trial counts as without it")
            return None
        values["status"] = Status(values["status"])
        values["metrics"] = {
            name: x for name, x in values.get("metrics", {}).items() if x is not None
        }
        return cls(folder.absolute(), **values)

    @classmethod
    def of(cls, folder: Path) -> "Result":
        """Return the result in a run folder, of a run that left none that it failed."""
        return cls.read(folder) or cls(folder.absolute())

    def write(self, folder: Path) -> None:
        """Write `result.json`, which stays valid JSON: a number that is not finite becomes null."""
        values = asdict(self)
        del values["folder"]
        values["metrics"] = {
            name: x if math.isfinite(x) else None for name, x in self.metrics.items()
        }
        with replaced(folder / layout.RESULT) as temporary:
            temporary.write_text(
                json.dumps(values, indent=2, allow_nan=False) + "\n", encoding="utf-8"
            )


@cache
def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that matter."""
    packages = (
        "trialstack",
        "torch",
        "torchvision",
        "lightning",
        "torchmetrics",
        "hydra-core",
        "numpy",
    )
    return {"python": platform.python_version()} | {
        name: importlib.metadata.version(name) for name in packages
    }


@cache
def git_commit() -> str | None:
    """Return the working directory's commit, or None outside a repository."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
