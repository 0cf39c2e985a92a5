"""The direction of a search: sweepers that minimise or maximise what a trial returns follow
`objective`.
"""

import logging
from enum import Enum
from typing import Any, Literal

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, read_write

from trialstack.core.objective import direction

log = logging.getLogger(__name__)

NAMES: dict[str, Literal["minimize", "maximize"]] = {"min": "minimize", "max": "maximize"}
"""Values of `hydra.sweeper.direction`, as Optuna has them."""


class FollowObjective(Callback):
    """Hydra callback that sets `hydra.sweeper.direction` where the sweeper has it and the user has
    not set it.
    """

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        sweeper = config.hydra.sweeper
        if "direction" not in sweeper:
            return
        objective, configured = str(config.objective), sweeper.direction
        wanted = NAMES[direction(objective)]
        if OmegaConf.is_list(configured) or _name(configured) == wanted:
            return
        if _is_chosen(config.hydra):
            log.warning(
                "hydra.sweeper.direction=%s disagrees with objective=%s, which is better the %s; "
                "leave it out",
                _name(configured),
                objective,
                {"minimize": "smaller", "maximize": "greater"}[wanted],
            )
            return
        with read_write(config.hydra):
            sweeper.direction = wanted
            # for the configs of the jobs
            config.hydra.overrides.hydra.append(f"hydra.sweeper.direction={wanted}")


def _is_chosen(hydra: DictConfig) -> bool:
    """Tell whether the direction comes from the command line or a config file rather than from the
    sweeper itself.
    """
    given = (str(line).lstrip("+").partition("=")[0] for line in hydra.overrides.hydra)
    default = getattr(OmegaConf.get_type(hydra.sweeper), "direction", hydra.sweeper.direction)
    return "hydra.sweeper.direction" in given or bool(hydra.sweeper.direction != default)


def _name(value: object) -> str:
    return value.name if isinstance(value, Enum) else str(value)
