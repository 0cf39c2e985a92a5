"""trialstack: PyTorch Lightning experiments, composed by Hydra.

Importing it loads neither torch nor lightning.
"""

from collections.abc import Callable
from typing import Any

from omegaconf import OmegaConf

from trialstack.core.called import called
from trialstack.core.objective import direction

__version__ = "0.1.0"


def _register(name: str, resolver: Callable[..., Any]) -> None:
    try:
        OmegaConf.register_resolver(name, resolver, replace=True)  # type: ignore[call-arg]
    except TypeError:  # OmegaConf before 2.4, where the name is that of another function
        OmegaConf.register_new_resolver(name, resolver, replace=True)


_register("called", called)
_register("direction", direction)
_register("either", lambda value, default: default if value is None else value)
