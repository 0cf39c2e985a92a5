"""`hydra/launcher=stacked`: hands a task all jobs of a sweep at once, if it can train them
together.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from trialstack.core import layout
from trialstack.core.hydra_internals import (
    JobReturn,
    SweepConfigLoader,
    configure_log,
    filter_overrides,
    run_job,
    setup_globals,
)

if TYPE_CHECKING:
    from trialstack.sweep.executor import Executor

log = logging.getLogger(__name__)


@dataclass
class StackedLauncherConf:
    _target_: str = "hydra_plugins.stacked_launcher.StackedLauncher"


ConfigStore.instance().store(
    group="hydra/launcher", name="stacked", node=StackedLauncherConf, provider="trialstack"
)


class StackedLauncher(Launcher):
    """Composes all jobs before the first one runs, and calls `task_function.train_jobs` with them.

    A task function without `train_jobs` runs once a job, as with Hydra's basic launcher.

    Attributes:
        accepts: it, or `train_jobs`, makes the sweep's folder and `multirun.yaml`, once all configs
            are found right.
    """

    accepts = True

    @cached_property
    def executor(self) -> "Executor":
        """What trains stacks, for all batches of a search."""
        from trialstack.sweep.executor import ThisProcess

        return ThisProcess()

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        # the sweeper has this context too
        hydra_context.config_loader = SweepConfigLoader(hydra_context.config_loader)
        self.context = hydra_context
        self.task_function = task_function
        self.config = config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        setup_globals()
        self._configure_log()
        configs = []
        for number, overrides in enumerate(job_overrides, initial_job_idx):
            try:
                config = self.context.config_loader.load_sweep_config(self.config, list(overrides))
            except HydraException as error:
                error.add_note(f"In the trial with {' '.join(overrides)}")
                raise
            with open_dict(config.hydra):
                config.hydra.job.id, config.hydra.job.num = str(number), number
            configs.append(config)
        train_jobs = getattr(self.task_function, "train_jobs", None)
        if train_jobs is not None:
            returned: list[JobReturn] = train_jobs(
                configs, self.config, self.context, self.task_function, self.executor
            )
            return returned
        folder = Path(str(self.config.hydra.sweep.dir))
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, folder / layout.MULTIRUN)
        log.info(f"Launching {len(configs)} jobs locally")
        return [self._run(config) for config in configs]

    def _run(self, config: DictConfig) -> JobReturn:
        log.info(
            f"\t#{config.hydra.job.num} : {' '.join(filter_overrides(config.hydra.overrides.task))}"
        )
        returned = run_job(
            hydra_context=self.context,
            task_function=self.task_function,
            config=config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )
        self._configure_log()
        return returned

    def _configure_log(self) -> None:
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
