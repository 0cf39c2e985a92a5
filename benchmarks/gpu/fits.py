"""Whether trials that were interrupted, or went on on another device, are those that were not."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from benchmarks.gpu.check import NEEDS_CUDA, Finding, Where
from benchmarks.gpu.equality import BOUND
from benchmarks.gpu.stacks import apart
from trialstack.core import layout
from trialstack.core.errors import Interrupted
from trialstack.run.checkpoints import read_checkpoint
from trialstack.run.folder import read_config, write_config
from trialstack.run.train import train
from trialstack.run.trial import Trial, compose_trial, resume_trial

CONF = Path(__file__).parent.parent.parent / "conf"
EPOCHS, INTERRUPTED_AFTER = 4, 2
DATA = (
    "data._target_=benchmarks.random_images.FewRandomImages",
    "data.val_size=1000",
    "test=false",
    "logger=none",
)


class Interrupts(Callback):
    """As Ctrl-C does, after an epoch."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch == INTERRUPTED_AFTER:
            raise KeyboardInterrupt


def trials(folder: Path, where: Where, own: Sequence[str], *common: str) -> list[Trial]:
    """Return new trials in numbered folders.

    Args:
        folder: of theirs.
        where: they train.
        own: overrides of each, joined by spaces.
        *common: those of all.
    """
    accelerator = f"trainer.accelerator={'gpu' if where.cuda else 'cpu'}"
    return [
        compose_trial([*DATA, accelerator, *common, *overrides.split()], folder / str(number), CONF)
        for number, overrides in enumerate(own)
    ]


def resumed_is_whole(where: Where) -> Finding:
    """One trial and four in a stack, float32, interrupted after two epochs of four."""
    same = []
    for name, rates in (("one", [0.001]), ("stack", [0.001, 0.002, 0.003, 0.004])):
        own = [f"optimizer.lr={rate}" for rate in rates]
        common = ("model=mlp128", f"trainer.max_epochs={EPOCHS}")
        whole = trials(where.folder / f"whole_{name}", where, own, *common)
        train(whole, [Callback()])
        parted = trials(where.folder / f"parted_{name}", where, own, *common)
        interrupt(parted)
        train([resume_trial(trial.folder) for trial in parted], [Callback()])
        for trial, other in zip(whole, parted, strict=True):
            same.append(torch.equal(last_weights(trial.folder), last_weights(other.folder)))
    return Finding(all(same), f"{sum(same)} of {len(same)} trials bit-equal")


def goes_on_on_another_device(where: Where) -> Finding:
    """Float64, from the CPU to the GPU and back, against the CPU alone."""
    if not where.cuda:
        return NEEDS_CUDA
    on_cpu = where._replace(device=torch.device("cpu"))
    own = ["optimizer.lr=0.001", "optimizer.lr=0.002 model.dropout=0.4"]
    common = ("model=mlp128", "trainer.precision=64-true", f"trainer.max_epochs={EPOCHS}")
    differences: dict[str, list[float]] = {}
    whole = trials(where.folder / "cpu", on_cpu, own, *common)
    train(whole, [Callback()])
    for begins, goes_on in (("cpu", "gpu"), ("gpu", "cpu")):
        name = f"{begins}_to_{goes_on}"
        begun = where if begins == "gpu" else on_cpu
        parted = trials(where.folder / name, begun, own, *common)
        interrupt(parted)
        for trial in parted:
            config = read_config(trial.folder)
            config.trainer.accelerator = goes_on
            write_config(trial.folder, config)
        train([resume_trial(trial.folder) for trial in parted], [Callback()])
        differences[name] = [
            apart(last_weights(trial.folder), last_weights(other.folder))
            for trial, other in zip(parted, whole, strict=True)
        ]
    largest = max(max(of_trials) for of_trials in differences.values())
    return Finding(largest <= BOUND, f"float64, {largest:.1e}", differences)


def interrupt(parted: Sequence[Trial]) -> None:
    """Train until Ctrl-C comes."""
    try:
        train(parted, [Interrupts()])
    except Interrupted:
        return
    raise AssertionError("the training was not interrupted")


def last_weights(folder: Path) -> Tensor:
    """Return the weights after a trial's last epoch, in one row."""
    state: dict[str, Any] = read_checkpoint(folder / layout.LAST)["state_dict"]
    return torch.cat([tensor.flatten().double() for tensor in state.values()])
