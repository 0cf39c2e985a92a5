"""`hydra/launcher=submitit_slurm` and `submitit_local`: trains the stacks of a sweep as jobs."""

from functools import cached_property
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from hydra_plugins.stacked_launcher import StackedLauncher

if TYPE_CHECKING:
    from trialstack.sweep.executor import Executor


class SubmititLauncher(StackedLauncher):
    """Args:
    **options: see `conf/hydra/launcher/submitit_slurm.yaml`.
    """

    def __init__(self, **options: Any) -> None:
        self.options = options

    @cached_property
    def executor(self) -> "Executor":
        from trialstack.sweep.on_submitit import SubmititExecutor

        options: Any = OmegaConf.to_container(OmegaConf.create(self.options), resolve=True)
        return SubmititExecutor(**options)
