"""Lightning's Trainer as a config describes it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, ProgressBar, Timer
from lightning.pytorch.callbacks.timer import Interval

from trialstack.core.configs import options
from trialstack.core.errors import UserError
from trialstack.core.groups import TrainerConfig
from trialstack.run.checkpoints import WholeFiles


def build_trainer(
    config: TrainerConfig, folder: Path, callbacks: Sequence[Callback] = (), **own: Any
) -> Trainer:
    """Return a Trainer.

    Args:
        config: its settings; the Timer of `max_time` is one of the callbacks, see `per_epoch`.
        folder: the run folder.
        callbacks: of the Trainer.
        **own: arguments that are not the config's to say.

    Raises:
        UserError: Lightning refuses a setting.
    """
    defaults = {
        "enable_progress_bar": any(isinstance(callback, ProgressBar) for callback in callbacks),
        "enable_model_summary": False,  # tables.model_summary prints one
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,  # minibatches are shared out by ShuffledMinibatches
    }
    settings = {name: value for name, value in config.values.items() if name != "max_time"}
    settings["plugins"] = [WholeFiles(), *_listed(settings.get("plugins"))]
    try:
        return Trainer(
            **{**defaults, **settings, **own}, callbacks=[*callbacks], default_root_dir=folder
        )
    except (MisconfigurationException, ValueError, TypeError, RuntimeError) as error:
        raise UserError(
            f"trainer: {str(error).splitlines()[0]}; see {options('trainer')} for what works"
        ) from error


def per_epoch(
    callbacks: Sequence[Callback], max_time: str | dict[str, int] | None
) -> list[Callback]:
    """Return callbacks with a Timer for `max_time`, all Timers made to look once an epoch: within
    one they would stop a training that cannot be resumed.
    """
    timers = [] if max_time is None else [Timer(max_time, verbose=False)]
    for callback in (*callbacks, *timers):
        if isinstance(callback, Timer):
            callback._interval = Interval.epoch
    return [*callbacks, *timers]


def _listed(asked: Any) -> list[Any]:
    """One, several or none as a list, as the Trainer takes them."""
    return asked if isinstance(asked, list) else [asked] if asked is not None else []
