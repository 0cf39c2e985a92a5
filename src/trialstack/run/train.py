"""Training: a function from trials to results."""

import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import torch
from lightning.pytorch.callbacks import Callback

from trialstack.core import layout
from trialstack.core.atomic_files import remove_parts
from trialstack.core.load import LOAD
from trialstack.data.cache import Datasets
from trialstack.engine.memory import is_out_of_memory, release_memory, return_addresses
from trialstack.engine.waiting import Cores, waiting_by_load
from trialstack.run.eager_fit import EagerFit
from trialstack.run.folder import lock_folder, locked
from trialstack.run.grouping import plan, stacks
from trialstack.run.messages import printed
from trialstack.run.quiet import is_main_process, quiet
from trialstack.run.result import Result
from trialstack.run.run import Run
from trialstack.run.stack_file import StackFile
from trialstack.run.stacked_fit import StackedFit
from trialstack.run.trial import Trial

log = logging.getLogger(__name__)


def train(
    trials: Sequence[Trial],
    observers: Sequence[Callback] = (),
    datasets: Datasets | None = None,
    is_held: bool = False,
) -> list[Result]:
    """Train trials, those that differ in numbers only as one stack, and leave a run folder each.

    A trial of several that cannot be made of its config, or does not fit into the memory by itself,
    has the status `failed`, and the others train.

    Args:
        trials: each with a folder of its own.
        observers: callbacks of every Trainer, in the place of the configs' progress bars.
        datasets: that earlier calls have loaded.
        is_held: another process holds the sweep's folder, for this one and others.

    Raises:
        UserError: the input is at fault, or the disk is full (`CannotWrite`).
        Interrupted: Ctrl-C, SIGTERM or SIGHUP; the folders can be resumed.
    """
    quiet()
    return_addresses()
    datasets = datasets or Datasets()
    results: dict[Path, Result] = {}
    with printed(), ExitStack() as locks:
        folders = [trial.folder for trial in trials]
        for folder in () if is_held else dict.fromkeys(map(lock_folder, folders)):
            locks.enter_context(locked(folder) if is_main_process() else nullcontext())
        for trial in trials if is_main_process() else ():
            for part in (
                trial.folder,
                trial.folder / layout.HYDRA,
                trial.folder / layout.CHECKPOINTS,
            ):
                remove_parts(part)
        locks.enter_context(_denormals_flushed())
        cores = locks.enter_context(waiting_by_load(LOAD))
        left = [list(trials)]
        while left:
            runs = [Run(trial) for trial in left.pop(0)]
            together = stacks(_to_train(runs))
            results |= {run.folder: run.result for run in runs}
            del runs  # what a run holds goes with its stack
            while together:
                ended, again = _fit(
                    *together.pop(0), observers, datasets, cores, alone=len(trials) == 1
                )
                results |= ended
                left += again
                if together or left:
                    release_memory()
    return [results[trial.folder] for trial in trials]


def _to_train(runs: Sequence[Run]) -> list[Run]:
    """Load what there is to go on from, and return the runs that have anything left to do."""
    resumed = {os.path.realpath(run.folder): run for run in runs if run.trial.resume}
    for run in resumed.values():
        stack = StackFile.of(run.folder) if run.state.stack is None and is_main_process() else None
        if stack is None:
            continue
        folders = {position: os.path.realpath(folder) for position, folder in stack.members.items()}
        together = {
            position: resumed[folder] for position, folder in folders.items() if folder in resumed
        }
        whole = (
            len(together) == stack.size
            and len(plan([other.config for other in together.values()])) == 1
        )
        trained = stack.last and all(
            stack.checkpoints[position]["epoch"] + 1 >= other.state.until
            for position, other in together.items()
        )
        if whole or trained:
            for position, other in together.items():
                other.state.go_on(stack.checkpoints[position], stack, position)
        else:
            stack.split()
            stack.remove()
    left = [run for run in runs if run.state.stack is not None or run.resume()]
    for run in left:
        run.forget_derived()
    return left


def _fit(
    runs: list[Run],
    stacked: bool,
    observers: Sequence[Callback],
    datasets: Datasets,
    cores: Cores,
    alone: bool,
) -> tuple[dict[Path, Result], list[list[Trial]]]:
    """Train what fits into the memory, and return the results, by folder, and what is left: what
    did not fit, as two halves if it was all.

    Args:
        runs: train together.
        stacked: as a stack.
        observers: callbacks of the Trainer.
        datasets: that are loaded.
        cores: to train on.
        alone: no other trial is to be trained, so that it is an error if this one does not fit.
    """
    fit = (StackedFit if stacked else EagerFit)(runs, observers, datasets, cores)
    try:
        fit.train()
        halves = []
    except Exception as error:
        if alone or not is_out_of_memory(error):
            raise
        halves = _halves(fit.runs, error)
    finally:
        for observer in observers:  # which Lightning has given the module's own methods
            for name in ("log", "log_dict"):
                vars(observer).pop(name, None)
    again = [
        [replace(run.trial, began=time.perf_counter()) for run in part]
        for part in (fit.left, *halves)
        if part
    ]
    return {run.folder: run.result for run in runs}, again


def _halves(runs: list[Run], error: Exception) -> list[list[Run]]:
    """What is to be trained in the place of a stack that did not fit into the memory; one trial has
    failed.
    """
    if len(runs) == 1:
        with runs[0].trial.logged():
            log.error("failed: the trial does not fit into the memory", exc_info=error)
        return []
    log.warning(
        "%d trials did not fit into the memory as one stack; two stacks of half as many", len(runs)
    )
    return [runs[: len(runs) // 2], runs[len(runs) // 2 :]]


@contextmanager
def _denormals_flushed() -> Iterator[None]:
    """Have CPUs take numbers below 1e-38 for 0: where pixels are dark, momentum decays to them, and
    they are slow.

    Threads that torch has started before keep their mode.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
