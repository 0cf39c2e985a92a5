"""Jobs as Hydra's launchers run them, in two halves, so that many can be open while they train
together.
"""

import os
import pickle
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, flag_override, open_dict, read_write

from trialstack.core.hydra_internals import JobReturn, JobStatus, task_name
from trialstack.core.parse import resolved
from trialstack.core.yaml_dump import to_yaml
from trialstack.sweep.job_environment import JobEnvironment


@dataclass
class TrialReturn(JobReturn):
    """What a launcher returns of a job that is a trial.

    Attributes:
        folder: of its run.
    """

    folder: Path | None = None


class Job:
    """One job of a sweep: `open` is what `hydra.core.utils.run_job` does before the task function,
    `close` the rest.

    Args:
        config: composed, with its `hydra` node.
        context: Hydra's.
        task_function: that would run it.

    Attributes:
        environment: that it runs in.
        is_open: between `open` and `close`.
        folder: where it writes: what `hydra.sweep.dir` and `hydra.sweep.subdir` say, until it is
            changed.
    """

    def __init__(
        self, config: DictConfig, context: HydraContext, task_function: TaskFunction
    ) -> None:
        self.config = config
        self.environment = JobEnvironment(config)
        self.context = context
        self.task_function = task_function
        self.is_open = False
        config.hydra.runtime.output_dir = ""
        with self.environment.active():
            self.folder = Path(str(config.hydra.sweep.dir), str(config.hydra.sweep.subdir))

    @property
    def overrides(self) -> list[str]:
        return list(map(str, OmegaConf.to_container(self.config.hydra.overrides.task) or ()))

    @property
    def apart(self) -> dict[str, Any]:
        """What keeps the job from sharing a process's environment with others."""
        job = self.config.hydra.job
        return {"env_set": dict(job.env_set), "chdir": str(self.folder) if job.chdir else None}

    def values(self) -> dict[str, Any]:
        """Return the config without its `hydra` node, as plain values.

        Raises:
            UserError: one is missing or cannot be interpolated.
        """
        with self.environment.active():
            return resolved(self.config)

    def open(self) -> None:
        """Make the folder, write `.hydra/`, begin the job's log and tell Hydra's callbacks."""
        self.is_open = True
        hydra = self.config.hydra
        hydra.runtime.output_dir = os.path.abspath(self.folder)
        OmegaConf.set_readonly(hydra, True)
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.environment.logging(), self.environment.active():
            if hydra.output_subdir is not None:
                self._write_configs(self.folder / hydra.output_subdir)
            self.context.callbacks.on_job_start(
                config=self.config, task_function=self.task_function
            )

    def _write_configs(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        task_config, hydra_config = self.parts
        parts = {
            "config": task_config,
            "hydra": hydra_config,
            "overrides": self.config.hydra.overrides.task,
        }
        for name, part in parts.items():
            text = to_yaml(OmegaConf.to_container(part, enum_to_str=True))
            (folder / f"{name}.yaml").write_text(text, encoding="utf-8")

    @cached_property
    def parts(self) -> tuple[DictConfig, DictConfig]:
        """Copies of the config without its `hydra` node, and of that, from before the job began."""
        task_config: DictConfig = pickle.loads(pickle.dumps(self.config))
        hydra_config = OmegaConf.create()
        with flag_override(hydra_config, "no_deepcopy_set_nodes", True):
            hydra_config.hydra = task_config.hydra
        with open_dict(task_config), read_write(task_config):
            del task_config["hydra"]
        return task_config, hydra_config

    def close(self, outcome: Any) -> JobReturn:
        """Tell Hydra's callbacks, and return what the launcher returns.

        Args:
            outcome: what the task function gave, or the exception that it raised.
        """
        self.is_open = False
        returned = self.returned(outcome)
        with self.environment.logging(), self.environment.active():
            self.context.callbacks.on_job_end(config=self.config, job_return=returned)
        return returned

    def returned(self, outcome: Any) -> JobReturn:
        """Return what the launcher returns of a job."""
        task_config, hydra_config = self.parts
        hydra = self.config.hydra
        there = hydra.runtime.output_dir if hydra.job.chdir else os.getcwd()
        returned = TrialReturn(self.overrides, task_config, hydra_config, there, task_name())
        returned.folder = self.folder
        returned.status = (
            JobStatus.FAILED if isinstance(outcome, Exception) else JobStatus.COMPLETED
        )
        returned.return_value = outcome
        return returned
