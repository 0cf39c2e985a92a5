"""What a trial is said to take against what fake CUDA tensors allocate."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.conftest import composed
from tests.engine.allocated import Allocated
from tests.engine.stand_in import CALLED
from trialstack.core.groups import MLPConfig
from trialstack.data.minibatches import Samples
from trialstack.engine.capacity import trial_bytes
from trialstack.engine.losses import CrossEntropyLoss
from trialstack.engine.mlp_stack import Stack
from trialstack.engine.models import MLP

SAMPLES, VALIDATION = 55_000, 1000


@pytest.mark.parametrize("seeds", [[1] * 32, list(range(32))])
@pytest.mark.parametrize(
    "overrides",
    [
        ["model=mlp300"],
        ["model=mlp300", "optimizer.momentum=0.9", "trainer.precision=64-true"],
        ["model=mlp128"],
        ["model=mlp300", "optimizer=rmsprop"],
        ["model=mlp300", "model.hidden=[1024,1024]", "model.dropout=0.2"],
        ["model=mlp300", "model.hidden=[64,64,64,64]", "optimizer=adamw", "model.dropout=0.5"],
        ["model=mlp300", "model.hidden=[]", "engine.steps_per_execution=256"],
        ["model=mlp300", "model.hidden=[200]", "data.batch_size=256"],
    ],
    ids=" ".join,
)
def test_a_trial_takes_what_is_allocated(
    overrides: list[str], seeds: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trialstack.engine.execution.CUDA", CALLED)
    config = composed(tmp_path, *overrides).config
    configs = [replace(config, seed=seed) for seed in seeds]
    with FakeTensorMode(allow_non_fake_inputs=True):
        data = SimpleNamespace(
            train_samples=Samples(
                torch.empty(SAMPLES, 1, 28, 28, device="cuda"),
                torch.empty(SAMPLES, dtype=torch.int64, device="cuda"),
            ),
            class_names=range(10),
            batch_size=configs[0].data.batch_size,
        )
        measured = allocated(configs, data.train_samples) / len(seeds)
    estimated = trial_bytes(configs, data)[torch.device("cuda:0")]  # type: ignore[arg-type]
    assert estimated == pytest.approx(measured, rel=0.25)


def allocated(configs: list[Any], samples: Samples) -> int:
    """Bytes of a stack that has been captured and has validated."""
    model, batch_size = configs[0].model, configs[0].data.batch_size
    assert isinstance(model, MLPConfig)
    networks = [MLP((1, 28, 28), 10, model.hidden, model.dropout or 0.0) for _ in configs]
    seeds = [config.seed for config in configs]
    optimizers = [config.optimizer.values for config in configs]
    dtype = torch.float64 if configs[0].trainer.bits == 64 else torch.float32
    steps, chunk = -(-SAMPLES // batch_size), configs[0].engine.steps_per_execution
    with Allocated("cuda") as bytes_:
        samples.images.flatten(1), samples.labels.view(-1)
        there = bytes_.now
        stack = Stack(
            networks, seeds, optimizers, [CrossEntropyLoss()] * len(seeds), samples, dtype
        )
        stack.keep(range(len(seeds)))
        stack.begin_epoch(np.ones((steps, len(seeds))), first=0, epoch=0, batch_size=batch_size)
        kept = bytes_.peak = bytes_.now
        rows = len(set(seeds))
        index = torch.empty(rows, chunk, batch_size, dtype=torch.int64, device="cuda")
        with torch.inference_mode():
            stack._steps(index, stack.table_QKS[:, :chunk], stack.first_K[:chunk])
        of_chunk = bytes_.peak - kept
        stack.validate(
            torch.empty(VALIDATION, 784, dtype=dtype, device="cuda"),
            torch.empty(VALIDATION, dtype=torch.int64, device="cuda"),
        )
        # the first call's memory serves validation, that of replays does not
        both: int = kept - there + (bytes_.peak - kept) + of_chunk
    return both
