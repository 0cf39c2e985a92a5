"""Weights & Biases: `logger=wandb`."""

import os
import secrets
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import lightning.pytorch.loggers as lightning_loggers

from trialstack.core import layout
from trialstack.core.errors import UserError
from trialstack.run.folder import sweep_of
from trialstack.run.status import Status
from trialstack.run.tracking import Tracked, TrackingLogger

try:
    import wandb
except ImportError:
    raise UserError(
        "logger=wandb needs wandb; pip install 'trialstack[wandb]' (in a clone: -e '.[wandb]')"
    ) from None


_OF_SWEEP = wandb.Settings(quiet=True, console="off")
"""Of the terminal, which the trials of a sweep have together."""


class WandbLogger(TrackingLogger, lightning_loggers.WandbLogger):
    """A run in the group of its sweep, named after its folder, where its files are.

    Args:
        folder: the run folder.
        **init: arguments of `wandb.init`, and of Lightning's WandbLogger.
    """

    at_once = False  # its process keeps what it has not written yet

    def __init__(self, folder: str, **init: Any) -> None:
        self.tracked = Tracked.read(Path(folder) / layout.WANDB)
        if self.tracked.run is None:
            self.tracked.begin(secrets.token_hex(8))
        sweep = sweep_of(Path(folder))
        own = {
            "name": Path(folder).name,
            "group": sweep,
            "id": self.tracked.run,
            "save_dir": folder,
            "settings": None if sweep is None else _OF_SWEEP,
        }
        super().__init__(**{**own, **init})
        self._wandb_init.pop("anonymous")  # which wandb says is of no use, if it is None as well
        _ = self.experiment  # begins the run; what is wrong with that is an error of the config

    @classmethod
    def rehearse(cls, values: Mapping[str, Any]) -> None:
        mode = values.get("mode") or os.environ.get("WANDB_MODE") or "online"
        if mode == "online" and not values.get("offline"):
            _log_in()

    def log_hyperparams(self, params: Any) -> None:
        """Nested, since wandb takes a dot in a key for a level."""
        super().log_hyperparams(_nested(params))

    def end(self, status: Status, objective: float | None) -> None:
        self.experiment.summary.update({"status": status.value, "objective": objective})
        self.experiment.finish(exit_code=0 if status.is_fine else 1)
        self.tracked.write()


@cache
def _log_in() -> None:
    try:
        wandb.login()
    except wandb.errors.Error as error:
        raise UserError(
            f"logger=wandb needs a login, got none ({' '.join(str(error).split())}); set "
            "WANDB_API_KEY, or WANDB_MODE=offline"
        ) from error


def _nested(values: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key, value in values.items():
        *groups, name = key.split(".")
        part = tree
        for group in groups:
            part = part.setdefault(group, {})
        part[name] = value
    return tree
