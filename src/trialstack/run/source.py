"""The run that another one begins with: with its best weights (`from=FOLDER`), or where it ended
(`continue=true`).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trialstack.core import layout
from trialstack.core.errors import UserError
from trialstack.core.schema import TrialConfig
from trialstack.engine.eager import Classifier
from trialstack.engine.models import MLP
from trialstack.run.checkpoints import copy, read_checkpoint, write
from trialstack.run.folder import read_config
from trialstack.run.result import Result
from trialstack.run.status import Status

NAMED = 3
"""Layers that do not fit, of which a message names no more."""


def check_source(config: TrialConfig) -> None:
    """Check that there is what a new run begins with.

    Raises:
        UserError: `from` is no run folder or has no checkpoint, or has trained as long already.
    """
    if config.source is None:
        return
    folder = Path(str(config.source))
    if not config.continues:
        _best(folder)
        return
    result = Result.read(folder)
    if result is not None and result.status == Status.DIVERGED:
        raise UserError(
            f"continue=true needs a run that can train on, got from={folder} (diverged); leave it "
            "out to begin with its best weights"
        )
    epochs = int(read_checkpoint(folder / layout.LAST)["epoch"]) + 1
    if epochs >= config.trainer.max_epochs:
        raise UserError(
            f"trainer.max_epochs > {epochs} must hold for continue=true (epochs that {folder} has "
            f"finished), got {config.trainer.max_epochs}; try trainer.max_epochs={2 * epochs}"
        )


def take_over(source: Path, folder: Path) -> None:
    """Give a new run the checkpoints of another, to go on from.

    Raises:
        UserError: there are none.
    """
    last = read_checkpoint(source / layout.LAST)
    last["callbacks"]["BestAndLast"]["ended"] = None
    if (source / layout.BEST).exists():
        (folder / layout.CHECKPOINTS).mkdir(exist_ok=True)
        copy(source / layout.BEST, folder / layout.BEST)
    write(last, folder / layout.LAST)  # at the end: a run that has it goes on from it


def load_weights(classifier: Classifier, folder: Path) -> None:
    """Have a classifier begin with the best weights of the run in `folder`.

    Raises:
        UserError: there are none, or they are of another network.
    """
    module = classifier.own or classifier
    there, here = _best(folder)["state_dict"], module.state_dict()
    if isinstance(classifier.network, MLP) and len(there) == len(here):
        there = dict(zip(here, there.values(), strict=True))  # dropout renumbers layers
    unlike = [name for name in {**there, **here} if _shape(there, name) != _shape(here, name)]
    if unlike:
        some = ", ".join(
            f"{name} ({_shape(there, name)} there, {_shape(here, name)} here)"
            for name in unlike[:NAMED]
        )
        more = f" and {len(unlike) - NAMED} more" if len(unlike) > NAMED else ""
        raise UserError(
            f"from={folder} must be a run of the same network, got other layers: {some}{more}; use "
            "the model of that run"
        )
    module.load_state_dict(there)


def _best(folder: Path) -> dict[str, Any]:
    """The checkpoint of a run's best epoch; of the last one, if no epoch was the best."""
    read_config(folder)
    best = folder / layout.BEST
    return read_checkpoint(best if best.exists() else folder / layout.LAST)


def _shape(weights: Mapping[str, Any], name: str) -> str:
    return str(list(getattr(weights[name], "shape", ()))) if name in weights else "none"
