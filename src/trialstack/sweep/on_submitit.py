"""Stacks as jobs that submitit submits: an array of Slurm's, or processes of this machine.

Jobs outlive the driver. What it has submitted lies in the sweep's folder, and a driver that comes
after it waits for what still runs before it submits anything.
"""

import json
import logging
import os
import re
import shutil
import sys
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from trialstack.core import layout
from trialstack.core.atomic_files import replaced
from trialstack.core.errors import Interrupted, UserError
from trialstack.core.rule import whole
from trialstack.run.result import Result
from trialstack.sweep.elsewhere import Place, train_here
from trialstack.sweep.executor import Ended
from trialstack.sweep.following import Following
from trialstack.sweep.progress import SweepBar
from trialstack.sweep.slurm_queue import SlurmQueue
from trialstack.sweep.stack_task import StackTask

log = logging.getLogger(__name__)

PAUSE = 1.0
"""Seconds between two looks at what jobs have written."""

OF_EVERY_CLUSTER = (
    "timeout_min", "cpus_per_task", "gpus_per_node", "mem_gb", "name", "stderr_to_stdout",
)  # fmt: skip
"""Parameters that have no prefix for submitit."""


class JobLost(Exception):
    """A job ended without a result."""


class Submission:
    """What a job calls; submitit calls `checkpoint` when the job is to go on in a new one.

    Args:
        place: where the driver is.
        threads: of torch; None for as many as it takes by itself.
    """

    def __init__(self, place: Place, threads: int | None) -> None:
        self.place = place
        self.threads = threads

    def __call__(self, task: StackTask) -> list[Result]:
        import submitit

        job = submitit.JobEnvironment().job_id
        try:
            return train_here(task, self.place, self.threads, job)
        except Interrupted:  # without a result, so that the job goes on should it be requeued
            sys.exit("interrupted; the trials can be trained on")

    def checkpoint(self, task: StackTask) -> Any:
        """Return what the next job does: the trials have their checkpoints."""
        import submitit

        return submitit.helpers.DelayedSubmission(self, task)


class SubmititExecutor:
    """Args:
    cluster: `slurm` or `local`.
    submitit_folder: where jobs and their logs lie.
    max_num_timeout: how often a job that reached its time limit goes on in a new one.
    **parameters: of submitit.
    """

    def __init__(
        self, cluster: str, submitit_folder: str, max_num_timeout: int = 3, **parameters: Any
    ) -> None:
        self.cluster = cluster
        self.folder = submitit_folder
        self.max_num_timeout = max_num_timeout
        self.parameters = {name: x for name, x in parameters.items() if x is not None}
        if "cpus_per_task" in self.parameters:
            cores = self.parameters["cpus_per_task"]
            whole(1, "2").check("hydra.launcher.cpus_per_task", cores)
        self._place: Place | None = None
        self._submitted = Path()
        self._queue = SlurmQueue()

    @property
    def workers(self) -> int:
        if self.cluster == "slurm":
            return int(self.parameters.get("array_parallelism", 1))
        return max(1, (os.cpu_count() or 1) // int(self.parameters.get("cpus_per_task", 1)))

    @property
    def on_gpu(self) -> bool:
        return any(self.parameters.get(name) for name in ("gpus_per_node", "gpus_per_task", "gres"))

    @property
    def on_this_machine(self) -> bool:
        return self.cluster == "local"

    def begin(self, folder: Path) -> None:
        """Wait for jobs that a driver before this one has submitted."""
        _import()
        if self.cluster == "slurm" and shutil.which("srun") is None:
            raise UserError(
                "hydra/launcher=submitit_slurm needs Slurm, of which srun is not there; use "
                "hydra/launcher=submitit_local on this machine"
            )
        self._submitted = folder / layout.JOBS
        self._wait()
        self._place = Place.here(folder)  # in whose place the jobs before looked for another

    def _wait(self) -> None:
        try:
            earlier = json.loads(self._submitted.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return
        said = False
        while running := [job for job in earlier if self._still_runs(job)]:
            if not said:
                names = ", ".join(job["id"] for job in running)
                log.info("waiting for jobs of an earlier command that still run: %s", names)
            said = True
            time.sleep(PAUSE)
        self._submitted.unlink()

    def train(self, tasks: Iterable[StackTask], bar: SweepBar) -> Generator[Ended, None, None]:
        assert self._place is not None
        waiting = list(tasks)
        executor = self._executor()
        submission = Submission(self._place, self.parameters.get("cpus_per_task"))
        following = Following(bar)
        running: dict[Any, StackTask] = {}
        at_once = len(waiting) if self.cluster == "slurm" else self.workers
        try:
            while waiting or running:
                batch = waiting[: at_once - len(running)]
                del waiting[: len(batch)]
                if batch:
                    jobs = executor.map_array(submission, batch)
                    running |= dict(zip(jobs, batch, strict=True))
                    self._write(running)
                following.look(list(running.values()))
                for job in [job for job in running if self._done(job)]:
                    yield Ended(running.pop(job), _outcome(job))
                    self._write(running)
                for job in self._lost(list(running)):
                    yield Ended(running.pop(job), JobLost(f"job {job.job_id} is gone"))
                    self._write(running)
                time.sleep(PAUSE)
        except KeyboardInterrupt:
            if running:
                log.info("jobs go on: %s", ", ".join(job.job_id for job in running))
            raise
        except BaseException:
            _cancel(list(running))
            self._submitted.unlink(missing_ok=True)
            raise
        self._submitted.unlink(missing_ok=True)

    def _executor(self) -> Any:
        import submitit

        tries = {f"{self.cluster}_max_num_timeout": self.max_num_timeout}
        executor = submitit.AutoExecutor(folder=self.folder, cluster=self.cluster, **tries)
        parameters = {
            name if name in OF_EVERY_CLUSTER else f"{self.cluster}_{name}": value
            for name, value in self.parameters.items()
        }
        try:
            executor.update_parameters(**parameters)
        except (NameError, TypeError, ValueError) as error:
            raise UserError(f"hydra.launcher: {' '.join(str(error).split())}") from error
        return executor

    def _lost(self, jobs: Sequence[Any]) -> list[Any]:
        if self.cluster != "slurm":
            return []
        lost = self._queue.lost([job.job_id for job in jobs])
        return [job for job in jobs if job.job_id in lost and not self._done(job)]

    def _done(self, job: Any) -> bool:
        """Whether a job has left what came out, or is a process that has ended.

        submitit itself asks Slurm's accounting, which not every cluster has.
        """
        return bool(job.paths.result_pickle.exists() if self.cluster == "slurm" else job.done())

    def _write(self, running: Mapping[Any, StackTask]) -> None:
        """Write down what runs."""
        jobs = [
            {
                "cluster": self.cluster,
                "id": job.job_id,
                "trials": [trial.folder.name for trial in task.trials],
            }
            for job, task in running.items()
        ]
        with replaced(self._submitted) as temporary:
            temporary.write_text(json.dumps(jobs, indent=1) + "\n", encoding="utf-8")

    def _still_runs(self, job: Mapping[str, Any]) -> bool:
        if job["cluster"] == "slurm":
            return self._queue.has(job["id"])
        try:
            return "submitit.local._local" in psutil.Process(int(job["id"])).cmdline()
        except psutil.Error:
            return False


def _import() -> None:
    try:
        import submitit  # noqa: F401
    except ImportError:
        raise UserError(
            "hydra/launcher=submitit_slurm needs submitit; pip install 'trialstack[slurm]' (in a "
            "clone: -e '.[slurm]')"
        ) from None


def _outcome(job: Any) -> Sequence[Result] | Exception:
    from submitit.core.utils import FailedJobError, UncompletedJobError

    try:
        results: list[Result] = job.result()
    except (FailedJobError, UncompletedJobError) as error:
        raised = re.findall(r"^[\w.]+(?:Error|Exception|Exit): .*$", str(error), re.MULTILINE)
        what = raised[-1] if raised else "ended without a result"
        return JobLost(f"job {job.job_id}: {what}; its log is {job.paths.stderr}")
    return results


def _cancel(jobs: Sequence[Any]) -> None:
    for job in jobs:
        job.cancel()
