"""Stacks as tasks of Ray, on one machine or a cluster.

A task has a whole GPU where there are any, else some cores. Ray moves a task whose worker or node
was lost to another one, where its trials go on from their last checkpoints.
"""

import os
import signal
from collections.abc import Generator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trialstack.core.errors import CannotWrite, UserError
from trialstack.core.rule import whole
from trialstack.run.result import Result
from trialstack.sweep.elsewhere import Place, train_here
from trialstack.sweep.executor import Ended
from trialstack.sweep.following import Following
from trialstack.sweep.progress import SweepBar
from trialstack.sweep.stack_task import StackTask

CORES = 2
"""Of a task without a GPU, where none are asked for."""

PAUSE = 1.0
"""Seconds between two looks at what tasks have written."""

PATIENCE = 60.0
"""Seconds that tasks have to end when they are stopped."""


ON_LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Environment variable with which Ray has its ports on the loopback alone, as it has on Windows;
told that address, it takes the machine's outer one.
"""


OUT_OF_MEMORY = "RAY_task_oom_retries"
"""Environment variable with how often Ray begins a task again whose worker it ended for want of
memory, which is without end where it is not set; beyond that such a worker counts as any that is
lost.
"""


class WorkerLost(Exception):
    """A task's worker or node was lost more often than it is tried again."""


class RayExecutor:
    """Args:
    init: arguments of `ray.init`.
    remote: options of each task.
    """

    def __init__(self, init: Mapping[str, Any], remote: Mapping[str, Any]) -> None:
        self.init = {name: value for name, value in init.items() if value is not None}
        self.remote = {name: value for name, value in remote.items() if value is not None}
        for name, least in (("num_cpus", 1), ("max_retries", 0)):
            if name in self.remote:
                whole(least, "2").check(f"hydra.launcher.ray.remote.{name}", self.remote[name])
        self._joins = "address" in self.init or "RAY_ADDRESS" in os.environ
        self._nodes: list[dict[str, Any]] | None = None
        self._place: Place | None = None

    @property
    def workers(self) -> int:
        nodes = self._connected()
        count = sum(
            int(node["Resources"].get("GPU", 0))
            if self.on_gpu
            else int(node["Resources"].get("CPU", 0) // self._cores)
            for node in nodes
        )
        if not count:
            most = max((int(node["Resources"].get("CPU", 0)) for node in nodes), default=0)
            raise UserError(
                f"hydra.launcher.ray.remote.num_cpus={self._cores} is more than any node of Ray "
                f"has: {most}; use hydra.launcher.ray.remote.num_cpus={max(1, most)}"
            )
        return count

    @property
    def on_gpu(self) -> bool:
        return any(node["Resources"].get("GPU", 0) for node in self._connected())

    @property
    def on_this_machine(self) -> bool:
        return not self._joins

    @property
    def _cores(self) -> int:
        return int(self.remote.get("num_cpus", 1 if self.on_gpu else CORES))

    def begin(self, folder: Path) -> None:
        """Have every node read what is written into the sweep's folder."""
        nodes = self._connected()
        import ray
        from ray.exceptions import RayError, RayTaskError
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self._place = Place.here(folder)
        enter = ray.remote(num_cpus=0)(Place.enter)
        probes = [
            enter.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            ).remote(self._place)
            for node in nodes
        ]
        for probe in probes:
            try:
                ray.get(probe)
            except RayTaskError as error:
                raise error.cause from None
            except RayError:  # a node that was lost since needs no storage
                continue

    def train(self, tasks: Iterable[StackTask], bar: SweepBar) -> Generator[Ended, None, None]:
        import ray

        assert self._place is not None
        on_gpu, cores = self.on_gpu, self._cores
        options = {"max_retries": 3, **self.remote, "num_cpus": cores, "num_gpus": int(on_gpu)}
        # processes are kept, with the data that they have loaded
        submit = ray.remote(max_calls=0)(_train).options(**options).remote
        threads = None if on_gpu else cores
        running: dict[Any, StackTask] = {}
        following = Following(bar)
        try:
            for task in tasks:
                running[submit(task, self._place, threads)] = task
            while running:
                following.look(list(running.values()))
                ended, _ = ray.wait(list(running), timeout=PAUSE)
                for reference in ended:
                    yield Ended(running.pop(reference), _outcome(reference))
        finally:
            _stop(list(running))

    def _connected(self) -> list[dict[str, Any]]:
        """The nodes that are there, after joining or starting them."""
        if self._nodes is None:
            self._nodes = _connect(self.init, self._joins)
        return self._nodes


def _connect(init: Mapping[str, Any], joins: bool) -> list[dict[str, Any]]:
    os.environ.setdefault(OUT_OF_MEMORY, "0")
    if not joins:
        os.environ.setdefault(ON_LOOPBACK, "0")
    try:
        import ray
    except ImportError:
        raise UserError(
            "hydra/launcher=ray needs Ray; pip install 'trialstack[ray]' (in a clone: -e '.[ray]')"
        ) from None
    if not ray.is_initialized():
        before = signal.getsignal(signal.SIGTERM)
        own = {"log_to_driver": False, "logging_level": "ERROR"}
        own |= {} if joins else {"address": "local", "include_dashboard": False}
        try:
            ray.init(**{**own, **init})
        except (ConnectionError, RuntimeError, TypeError, ValueError) as error:
            given = ", ".join(f"{name}={value}" for name, value in init.items())
            raise UserError(
                f"hydra.launcher.ray.init: {' '.join(str(error).split())}, got {given or 'nothing'}"
            ) from error
        finally:
            signal.signal(signal.SIGTERM, before)  # in whose place Ray puts its own
    return [node for node in ray.nodes() if node["Alive"]]


def _train(task: StackTask, place: Place, threads: int | None) -> list[Result]:
    """Train a task on a worker.

    Ray cancels it by an interruption, which a driver in the background has its processes ignore.
    """
    import ray

    signal.signal(signal.SIGINT, signal.default_int_handler)
    return train_here(task, place, threads, str(ray.get_runtime_context().get_task_id()))


def _outcome(reference: Any) -> Sequence[Result] | Exception:
    import ray
    from ray.exceptions import RayError, RayTaskError

    try:
        results: list[Result] = ray.get(reference)
    except RayTaskError as error:
        if isinstance(error.cause, CannotWrite):
            raise error.cause from None
        return error.cause if isinstance(error.cause, Exception) else error
    except RayError as error:
        return WorkerLost(str(error).strip().partition("\n")[0])
    return results


def _stop(running: Sequence[Any]) -> None:
    """Interrupt tasks, and wait until they have written what they must."""
    import ray

    for reference in running:
        ray.cancel(reference, recursive=False)
    if running:
        ray.wait(list(running), num_returns=len(running), timeout=PATIENCE)
