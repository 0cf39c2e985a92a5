"""How many trials fit into a stack: what a trial takes, against what memory there is."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from trialstack.data.datamodule import ImageDataModule
from trialstack.engine.memory import free_memory
from trialstack.engine.stacked_optimizers import tensors_per_parameter


def trials_that_fit(configs: Sequence[Mapping[str, Any]], data: ImageDataModule) -> int:
    """Return how many of these trials can be one stack: `engine.max_stack`, or what the device's
    memory holds.
    """
    limits = [config["engine"].get("max_stack") for config in configs]
    if all(limits):
        return int(min(limits))
    device = data.train_samples.labels.device
    return max(1, int(free_memory(device) // trial_bytes(configs, data)))


def trial_bytes(configs: Sequence[Mapping[str, Any]], data: ImageDataModule) -> int:
    """Return what a trial takes at most: parameters, optimizer, best weights, checkpoint,
    minibatches of a chunk.
    """
    config = configs[0]
    samples = data.train_samples
    widths = [samples.images[0].numel(), *config["model"]["hidden"], len(data.class_names)]
    parameters = sum(inputs * outputs + outputs for inputs, outputs in pairwise(widths))
    itemsize = 8 if str(config["trainer"]["precision"]).startswith("64") else 4
    kept = tensors_per_parameter([config["optimizer"] for config in configs])
    # on a CPU also a checkpoint and the best weights
    copies = kept if samples.labels.is_cuda else 2 * kept + 2
    batch = config["engine"].get("steps_per_execution", 64) * data.batch_size
    masked = any(config["model"].get("dropout") for config in configs)
    rows = (
        (widths[0] if samples.labels.is_cuda else 0)
        + (sum(widths[1:-1]) if masked else 0)
        + 4 * widths[-1]
    )
    return int(itemsize * (copies * parameters + batch * rows))
