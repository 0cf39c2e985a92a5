"""How many trials fit into a stack: what a trial takes, against what memory there is.

Sizes are in numbers unless they say bytes. Shapes: K optimizer steps in a chunk, B samples in a
minibatch.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch

from trialstack.core.groups import MLPConfig
from trialstack.core.schema import TrialConfig
from trialstack.core.sizes import EVALUATION_BATCH, epoch_steps
from trialstack.data.datamodule import ImageDataModule
from trialstack.engine import execution
from trialstack.engine.memory import free_memory
from trialstack.engine.packing import Packing
from trialstack.engine.stacked_optimizers import tensors_per_parameter

HOST = torch.device("cpu")


def trials_that_fit(configs: Sequence[TrialConfig], data: ImageDataModule) -> int:
    """Return how many of these trials can be one stack: `engine.max_stack`, or what the memory
    holds, the device's and that of the checkpoints.
    """
    limit = most_in_stack(configs)
    if limit is not None:
        return limit
    taken = trial_bytes(configs, data)
    return max(1, min(int(free_memory(device) // size) for device, size in taken.items()))


def most_in_stack(configs: Sequence[TrialConfig]) -> int | None:
    """Return the smallest `engine.max_stack` of some trials; None if one has none."""
    limits = [config.engine.max_stack for config in configs]
    return None if None in limits else min(filter(None, limits))


def trial_bytes(configs: Sequence[TrialConfig], data: ImageDataModule) -> dict[torch.device, int]:
    """Return what each of some trials that train together takes at most, of the device's memory and
    of the CPU's.
    """
    config = configs[0]
    samples = data.train_samples
    device = samples.labels.device
    hidden_S = [config.model.hidden for config in configs if isinstance(config.model, MLPConfig)]
    packing = Packing(
        [[samples.images[0].numel(), *hidden, len(data.class_names)] for hidden in hidden_S or [[]]]
    )
    itemsize = config.trainer.bits // 8
    tensors = tensors_per_parameter([config.optimizer.values for config in configs])
    steps = epoch_steps(-(-len(samples.labels) // data.batch_size), config.trainer.batches_of_epoch)
    # with the best weights
    kept = itemsize * ((tensors + 1) * packing.size + TABLE * steps)
    chunk = _chunk_bytes(configs, data, packing.widths, itemsize)
    several_folds = len({config.data.fold for config in configs}) > 1
    own_images = packing.widths[0] if several_folds else 0
    validation = itemsize * EVALUATION_BATCH * (own_images + _of_forward(packing.widths))
    # best weights of a checkpoint, those that the next one is made of, and that
    host = itemsize * packing.size * (1 + 2 * tensors)
    if execution.on(device).captures is None:
        return {HOST: kept + host + max(chunk, validation)}
    # what the first call has taken stays, for validation; what replays take is theirs alone
    return {device: kept + chunk + max(chunk, validation), HOST: host}


TABLE = 8
"""Numbers of an optimizer step, with what else is laid out of an epoch."""


def _chunk_bytes(
    configs: Sequence[TrialConfig], data: ImageDataModule, widths: Sequence[int], itemsize: int
) -> int:
    """What a trial's optimizer steps allocate besides what stays."""
    pixels, *hidden, classes = widths
    batch_size = data.batch_size
    samples = configs[0].engine.steps_per_execution * batch_size
    own_seed = len({config.seed for config in configs}) > 1
    images = pixels * batch_size if own_seed else 0
    values = 3 * sum(hidden) * batch_size
    # logits, targets, and what is made of them for the losses
    outputs = 3 * classes * samples
    # 64-bit words for four units each, whether they are kept, and the mask
    masks = (2 + 1 + itemsize) * sum(hidden) * samples
    dropped = any(config.dropout for config in configs)
    return itemsize * (images + values + outputs) + (masks if dropped else 0)


def _of_forward(widths: Sequence[int]) -> int:
    """Values of a sample that are there at once: two of a layer, and those of the next one."""
    hidden = widths[1:]
    return max((2 * below + above for below, above in pairwise(hidden)), default=0) + 2 * widths[-1]
