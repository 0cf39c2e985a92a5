"""`hydra/sweeper=optuna`: a search with Optuna, batch by batch."""

from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class SearchSweeper(Sweeper):
    """Asks Optuna for trials, has the launcher train them, and tells Optuna what came out.

    Args:
        **options: see `conf/hydra/sweeper/optuna.yaml`.
    """

    def __init__(self, **options: Any) -> None:
        self.options = options

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        from trialstack.sweep.search import InSearch

        self.hydra_context = hydra_context
        self.config = config
        self.task_function = InSearch(task_function)
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=self.task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Search until the study has all its trials.

        Raises:
            UserError: an option or the search space is at fault, or Optuna is missing.
            TrialsFailed: trials failed.
        """
        from trialstack.sweep.search import search
        from trialstack.sweep.search_options import Options

        assert self.config is not None
        assert self.launcher is not None
        options = Options.parse(self.options)
        search(options, arguments, self.config, self.launcher, self.task_function)
