"""Training: a function from trials to results."""

import gc
import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import torch
from lightning.pytorch.callbacks import Callback

from trialstack.atomic import remove_parts
from trialstack.cli import LOAD
from trialstack.datasets import Datasets
from trialstack.fits import EagerFit, Fit, StackedFit
from trialstack.folders import lock_folder, locked
from trialstack.quiet import is_main_process, quiet
from trialstack.results import Result
from trialstack.runs import Run
from trialstack.stack_checkpoint import StackFile
from trialstack.stacking import plan, stacks
from trialstack.trials import Trial
from trialstack.waiting import waiting_by_load

log = logging.getLogger(__name__)


def train(
    trials: Sequence[Trial], observers: Sequence[Callback] = (), datasets: Datasets | None = None
) -> list[Result]:
    """Train trials, those that differ in numbers only as one stack, and leave a run folder each.

    A trial of several that cannot be made of its config has the status `failed`, and the others train.

    Args:
        trials: each with a folder of its own.
        observers: callbacks of every Trainer, in the place of the configs' progress bars.
        datasets: that earlier calls have loaded.

    Raises:
        UserError: the input is at fault, or the disk is full (`CannotWrite`).
        Interrupted: Ctrl-C or SIGTERM; the folders can be resumed.
    """
    quiet()
    datasets = datasets or Datasets()
    results: dict[Path, Result] = {}
    with ExitStack() as locks:
        for folder in dict.fromkeys(map(lock_folder, (trial.folder for trial in trials))):
            locks.enter_context(locked(folder) if is_main_process() else nullcontext())
        for trial in trials if is_main_process() else ():
            for part in (trial.folder, trial.folder / ".hydra", trial.folder / "checkpoints"):
                remove_parts(part)
        locks.enter_context(_denormals_flushed())
        locks.enter_context(waiting_by_load(LOAD))
        left = [list(trials)]
        while left:
            runs = [Run(trial) for trial in left.pop(0)]
            for together, stacked in stacks(_to_train(runs)):
                fit = (StackedFit if stacked else EagerFit)(together, observers, datasets)
                left += _halved(fit)
            results |= {run.folder: run.result for run in runs}
    return [results[trial.folder] for trial in trials]


def _to_train(runs: Sequence[Run]) -> list[Run]:
    """Load what there is to go on from, and return the runs that have anything left to do."""
    resumed = {os.path.realpath(run.folder): run for run in runs if run.trial.resume}
    for run in resumed.values():
        stack = StackFile.of(run.folder) if run.stack is None and is_main_process() else None
        if stack is None:
            continue
        folders = {position: os.path.realpath(folder) for position, folder in stack.members.items()}
        together = {position: resumed[folder] for position, folder in folders.items() if folder in resumed}
        whole = len(together) == stack.size and len(plan([other.config for other in together.values()])) == 1
        if whole or stack.last:
            for position, other in together.items():
                other.go_on(stack.checkpoints[position], stack, position)
        else:
            stack.split()
            stack.remove()
    return [run for run in runs if run.stack is not None or run.resume()]


def _halved(fit: Fit) -> list[list[Trial]]:
    """Train, and return what is left: what did not fit into the memory, as two halves if it was all."""
    try:
        left = [replace(run.trial, began=time.perf_counter()) for run in fit.train()]
        return [left] if left else []
    except Exception as error:
        if len(fit.runs) == 1 or not _is_out_of_memory(error):
            raise
    trials = [run.trial for run in fit.runs]
    log.warning("%d trials did not fit into the memory as one stack; two stacks of half as many", len(trials))
    del fit
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return [trials[: len(trials) // 2], trials[len(trials) // 2 :]]


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)


@contextmanager
def _denormals_flushed() -> Iterator[None]:
    """Have CPUs take numbers below 1e-38 for 0: where pixels are dark, momentum decays to them, and they are slow.

    Threads that torch has started before keep their mode.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
