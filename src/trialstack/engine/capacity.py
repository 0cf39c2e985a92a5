"""How many trials fit into a stack: what a trial takes, against what memory there is."""

from collections.abc import Sequence

from trialstack.core.groups import MLPConfig
from trialstack.core.schema import TrialConfig
from trialstack.data.datamodule import ImageDataModule
from trialstack.engine.memory import free_memory
from trialstack.engine.packing import Packing
from trialstack.engine.stacked_optimizers import tensors_per_parameter


def trials_that_fit(configs: Sequence[TrialConfig], data: ImageDataModule) -> int:
    """Return how many of these trials can be one stack: `engine.max_stack`, or what the device's
    memory holds.
    """
    limit = most_in_stack(configs)
    if limit is not None:
        return limit
    device = data.train_samples.labels.device
    return max(1, int(free_memory(device) // trial_bytes(configs, data)))


def most_in_stack(configs: Sequence[TrialConfig]) -> int | None:
    """Return the smallest `engine.max_stack` of some trials; None if one has none."""
    limits = [config.engine.max_stack for config in configs]
    return None if None in limits else min(filter(None, limits))


def trial_bytes(configs: Sequence[TrialConfig], data: ImageDataModule) -> int:
    """Return what a trial takes at most: parameters, optimizer, best weights, checkpoint,
    minibatches of a chunk.
    """
    config = configs[0]
    samples = data.train_samples
    hidden_S = [config.model.hidden for config in configs if isinstance(config.model, MLPConfig)]
    packing = Packing(
        [[samples.images[0].numel(), *hidden, len(data.class_names)] for hidden in hidden_S or [[]]]
    )
    widths, parameters = packing.widths, packing.size
    itemsize = config.trainer.bits // 8
    kept = tensors_per_parameter([config.optimizer.values for config in configs])
    # on a CPU also a checkpoint and the best weights
    copies = kept if samples.labels.is_cuda else 2 * kept + 2
    batch = config.engine.steps_per_execution * data.batch_size
    masked = any(config.dropout for config in configs)
    rows = (
        (widths[0] if samples.labels.is_cuda else 0)
        + (sum(widths[1:-1]) if masked else 0)
        + 4 * widths[-1]
    )
    return int(itemsize * (copies * parameters + batch * rows))
