"""What callbacks see of a trial that trains alone on the stacked engine: its weights, as on the
eager engine.
"""

from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from tests.conftest import composed
from tests.run.test_runs import weights
from trialstack.engine.stacked import StackedClassifier
from trialstack.run.result import Result
from trialstack.run.train import train

SMALL = (
    "model.hidden=[16,12]",
    "trainer.max_epochs=2",
    "test=false",
    "model.dropout=0.0",
    "optimizer.momentum=0.9",
)


class Norms(Callback):
    """Adds up the weights at every hook between steps."""

    seen: ClassVar[dict[str, list[float]]] = {}
    modules: ClassVar[list[LightningModule]] = []

    def __init__(self, name: str) -> None:
        self.norms = self.seen.setdefault(name, [])

    def _add(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.norms.append(sum(float(p.detach().norm()) for p in pl_module.parameters()))

    on_fit_start = on_train_start = on_train_epoch_start = on_validation_start = _add
    on_validation_end = on_train_epoch_end = on_train_end = on_fit_end = _add

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._add(trainer, pl_module)
        self.modules.append(pl_module)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._add(trainer, pl_module)


@pytest.fixture(autouse=True)
def _nothing_seen() -> None:
    Norms.seen.clear()
    Norms.modules.clear()


def trained(folder: Path, *overrides: str) -> Result:
    norms = f"+callbacks.norms={{_target_: tests.run.test_views.Norms, name: {folder.name}}}"
    [result] = train([composed(folder, *SMALL, norms, *overrides)])
    assert result.status == "completed", result.reason
    return result


@pytest.mark.parametrize("precision", ["32-true", "64-true"])
def test_the_norm_of_the_weights_is_that_of_the_eager_engine_at_every_hook(
    precision: str, tmp_path: Path
) -> None:
    for engine in ("stacked", "eager"):
        result = trained(tmp_path / engine, f"engine={engine}", f"trainer.precision={precision}")
        assert result.engine == engine
    assert len(Norms.seen["eager"]) > 10
    tolerance = 1e-9 if precision == "64-true" else 1e-5
    assert Norms.seen["stacked"] == pytest.approx(Norms.seen["eager"], rel=tolerance)


@pytest.mark.parametrize("precision", ["32-true", "64-true"])
def test_the_networks_parameters_are_the_stacks_storage_until_the_end(
    precision: str, tmp_path: Path
) -> None:
    trained(tmp_path / "a", f"trainer.precision={precision}")
    [module] = Norms.modules
    assert isinstance(module, StackedClassifier)
    [part] = module.parts
    module.to(torch.float16)
    storage = part.stack.parameters.untyped_storage().data_ptr()
    assert {p.untyped_storage().data_ptr() for p in module.parameters()} == {storage}
    assert [tuple(p.shape) for p in module.parameters()] == [
        (16, 784),
        (16,),
        (12, 16),
        (12,),
        (10, 12),
        (10,),
    ]
    last = weights(tmp_path / "a", "last")
    assert all(torch.equal(value, last[name]) for name, value in module.state_dict().items())


def test_the_module_gives_logits(tmp_path: Path) -> None:
    trained(tmp_path / "a", "model.dropout=0.5")
    [module] = Norms.modules
    assert isinstance(module, StackedClassifier)
    images = torch.rand(3, 1, 28, 28)
    module.eval()
    assert torch.equal(module(images), module.network(images))
    assert module(images).shape == (3, 10)
    assert module.hparams["optimizer"]["lr"] == 0.01


def test_a_callback_that_looks_at_weights_changes_no_bit(tmp_path: Path) -> None:
    trained(tmp_path / "watched")
    train([composed(tmp_path / "alone", *SMALL)])
    watched, alone = weights(tmp_path / "watched", "last"), weights(tmp_path / "alone", "last")
    assert all(torch.equal(value, alone[name]) for name, value in watched.items())
