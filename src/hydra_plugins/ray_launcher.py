"""`hydra/launcher=ray`: trains the stacks of a sweep as tasks of Ray."""

from functools import cached_property
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from hydra_plugins.stacked_launcher import StackedLauncher

if TYPE_CHECKING:
    from trialstack.sweep.executor import Executor


class RayLauncher(StackedLauncher):
    """Args:
    ray: `init` and `remote`, see `conf/hydra/launcher/ray.yaml`.
    """

    def __init__(self, ray: DictConfig) -> None:
        self.options = ray

    @cached_property
    def executor(self) -> "Executor":
        from trialstack.sweep.on_ray import RayExecutor

        options: Any = OmegaConf.to_container(self.options, resolve=True)
        return RayExecutor(options.get("init") or {}, options.get("remote") or {})
