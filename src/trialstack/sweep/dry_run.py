"""`dry_run=true`: what a sweep would train together and why, how long it would take and in how much
memory.
"""

import json
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Trainer
from torch import Tensor

from trialstack.core.build import build
from trialstack.core.load import LOAD
from trialstack.core.schema import TrialConfig
from trialstack.core.sizes import epoch_steps
from trialstack.data.cache import Datasets
from trialstack.data.datamodule import ImageDataModule
from trialstack.engine import execution
from trialstack.engine.capacity import trial_bytes, trials_that_fit
from trialstack.engine.chunks import Order, ShuffledChunks
from trialstack.engine.eager import Classifier, hyperparameters
from trialstack.engine.losses import CrossEntropyLoss
from trialstack.engine.mlp_stack import Stack
from trialstack.engine.models import MLP
from trialstack.engine.waiting import waiting_by_load
from trialstack.run.devices import check_devices
from trialstack.run.grouping import Planned, plan
from trialstack.run.quiet import quiet
from trialstack.run.tables import table
from trialstack.sweep.spread import last_end, spread

STEPS = 32
"""Optimizer steps that are timed."""

TRIALS = 8
"""Trials that are timed together, at most."""


def plan_table(
    configs: Sequence[TrialConfig],
    labels: Sequence[Mapping[str, Any]],
    share: float,
    workers: int,
    on_gpu: bool,
) -> tuple[str, float]:
    """Return the stacks of these trials as a table, with times from a few measured steps, and about
    how many seconds they train; nothing is written.

    Args:
        configs: of the trials.
        labels: of each trial, the values of the keys that vary in the sweep.
        share: of their epochs that will be trained.
        workers: that train stacks at once.
        on_gpu: whether each has a GPU.

    Raises:
        UserError: a config is at fault, or the data is missing.
    """
    quiet()
    with _threads_of_stacks():
        datasets = Datasets()
        rows, total, largest = [], 0.0, 0.0
        of_trials: dict[int, float] = {}
        for stack in _alike(plan(configs)):
            members, one_by_one = stack.members, stack.one_by_one is not None
            of_stack = [configs[position] for position in members]
            data = _data(datasets, of_stack[0])
            size = (
                1
                if one_by_one
                else -(-len(members) // -(-len(members) // trials_that_fit(of_stack, data)))
            )
            of_trial = _seconds(of_stack[:1] if one_by_one else of_stack, data, stack.eager)
            seconds = share * len(members) * of_trial
            gib = size * trial_bytes(of_stack, data)[data.train_samples.labels.device] / 2**30
            total, largest = total + seconds, max(largest, gib)
            of_trials |= dict.fromkeys(members, share * of_trial)
            engine = (
                f"eager: {stack.eager}"
                if stack.eager
                else f"stacked: {stack.alone}"
                if stack.alone
                else f"stacked, padded to {json.dumps(stack.padded)}"
                if stack.padded
                else "stacked"
            )
            count = -(-len(members) // size)
            stacks = (
                str(size)
                if count == 1
                else f"{len(members)}, {'one' if size == 1 else size} at a time"
            )
            rows.append(
                [
                    _labels_in_common(members, labels) or "all",
                    engine,
                    stacks,
                    f"{seconds:.1f}",
                    f"{gib:.2f}",
                ]
            )
        text = table(["Trials with", "Engine", "Trials", "Seconds", "GiB"], rows)
        trials = "1 trial" if len(configs) == 1 else f"{len(configs)} trials"
        of_all = f"{trials}, about {total:.0f} s of training, at most {largest:.2f} GiB"
        lines = [text, f"{of_all}; nothing was trained"]
        if workers > 1:
            parts = spread(plan(configs), configs, workers, on_gpu)
            total = last_end([sum(of_trials[member] for member in part) for part in parts], workers)
            lines.append(
                f"{workers} workers, {len(parts)} stacks: the last ends after about {total:.0f} s"
            )
        return "\n".join(lines), total


@contextmanager
def _threads_of_stacks() -> Iterator[None]:
    """Compute with as many threads as stacks mostly have."""
    with waiting_by_load(LOAD) as cores:
        torch.set_num_threads(cores.free)
        try:
            yield
        finally:
            torch.set_num_threads(cores.threads)


def _alike(stacks: Sequence[Planned]) -> list[Planned]:
    """Stacks; trials that train one after another as one of them."""
    alike: dict[str, Planned] = {}
    for stack in stacks:
        key = json.dumps([stack.shared, stack.one_by_one], sort_keys=True)
        alike.setdefault(key, stack._replace(members=[])).members.extend(stack.members)
    return list(alike.values())


def _labels_in_common(members: Sequence[int], labels: Sequence[Mapping[str, Any]]) -> str:
    """The values in which some trials agree, and not all do."""
    first = labels[members[0]]
    return ", ".join(
        f"{key}={value if isinstance(value, str) else json.dumps(value)}"
        for key, value in first.items()
        if all(labels[position][key] == value for position in members)
        and any(x[key] != value for x in labels)
    )


def _data(datasets: Datasets, config: TrialConfig) -> ImageDataModule:
    accelerator, devices = config.trainer.accelerator, config.trainer.devices
    check_devices(accelerator, devices)
    trainer = Trainer(
        accelerator=accelerator,
        devices=devices,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    return datasets.load(config.data, config.seed, trainer)


def _seconds(configs: Sequence[TrialConfig], data: ImageDataModule, eager: str | None) -> float:
    """Return about how many seconds a trial of these takes, all epochs with validation."""
    config = configs[0]
    samples, device = len(data.train_samples.labels), data.train_samples.labels.device
    steps = epoch_steps(-(-samples // data.batch_size), config.trainer.batches_of_epoch)
    timed = min(STEPS, steps, samples // data.batch_size)
    orders = [Order(config.seed, 0)]
    chunk = next(
        iter(ShuffledChunks(samples, samples, data.batch_size, orders, timed, timed, device))
    )
    measure = _stacked if eager is None else _eager
    step = measure(configs, data, chunk) / timed
    seen = steps * data.batch_size
    return (
        config.trainer.max_epochs * step * steps * (1 + len(data.val_samples.labels) / (3 * seen))
    )


def _stacked(configs: Sequence[TrialConfig], data: ImageDataModule, index_1KB: Tensor) -> float:
    """Seconds of a chunk for one trial of a stack."""
    some = configs[:TRIALS]
    classifiers = [_classifier(config, data) for config in some]
    seeds = [config.seed for config in some]
    stack = Stack(
        [classifier.network for classifier in classifiers if isinstance(classifier.network, MLP)],
        seeds,
        [config.optimizer.values for config in some],
        [
            classifier.criterion
            for classifier in classifiers
            if isinstance(classifier.criterion, CrossEntropyLoss)
        ],
        data.train_samples,
        torch.float64 if some[0].trainer.bits == 64 else torch.float32,
    )
    index_nKB = index_1KB if len(set(seeds)) == 1 else index_1KB.repeat(len(some), 1, 1)
    _, steps, batch_size = index_1KB.shape
    stack.begin_epoch(np.zeros((steps, len(some))), first=0, epoch=0, batch_size=batch_size)
    seconds = _timed(lambda: stack.train_chunk(index_nKB, start=0), index_1KB.device)
    return seconds / len(some)


def _eager(configs: Sequence[TrialConfig], data: ImageDataModule, index_1KB: Tensor) -> float:
    """Seconds of as many steps for one trial."""
    classifier = _classifier(configs[0], data).to(index_1KB.device)
    optimizer = build(
        "optimizer", configs[0].optimizer.values, torch.optim.Optimizer, classifier.parameters()
    )
    images, labels = data.train_samples

    def steps() -> None:
        for index in index_1KB[0]:
            optimizer.zero_grad()
            _loss(classifier, images[index], labels[index]).backward()
            optimizer.step()

    return _timed(steps, index_1KB.device)


def _loss(classifier: Classifier, images: Tensor, labels: Tensor) -> Tensor:
    if classifier.own is None:
        of_images: Tensor = classifier.criterion(classifier(images), labels)
        return of_images
    with warnings.catch_warnings(action="ignore"):  # that nothing is logged
        given: Any = classifier.own.training_step((images, labels), 0)
    loss: Tensor = given["loss"] if isinstance(given, Mapping) else given
    return loss


def _classifier(config: TrialConfig, data: ImageDataModule) -> Classifier:
    return Classifier(**hyperparameters(config, data))


def _timed(steps: Callable[[], None], device: torch.device) -> float:
    """Seconds of a call, the fastest of three, for other processes may hold up any; two before them
    warm up, of which the second captures what a GPU replays.
    """
    queue, seconds = execution.on(device).queue(device), []
    for _ in range(5):
        queue.wait()
        began = time.perf_counter()
        steps()
        queue.wait()
        seconds.append(time.perf_counter() - began)
    return min(seconds[2:])
