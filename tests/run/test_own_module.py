"""A LightningModule of the user's own in the place of a network."""

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from tests.conftest import composed
from trialstack.core.errors import UserError
from trialstack.data.datamodule import Digits
from trialstack.data.minibatches import Batch, ShuffledMinibatches
from trialstack.run.folder import write_config
from trialstack.run.grouping import plan
from trialstack.run.metrics_csv import read_rows
from trialstack.run.rehearsal import rehearse
from trialstack.run.restore import best_classifier
from trialstack.run.result import Result
from trialstack.run.status import Status
from trialstack.run.train import train
from trialstack.run.trial import Trial


class Autoencoder(LightningModule):
    """Noise, so that it needs its random numbers; two schedulers, so that it needs their states."""

    def __init__(self, image_shape: Sequence[int], code: int = 4, lr: float = 0.01) -> None:
        super().__init__()
        pixels = prod(image_shape)
        self.lr = lr
        self.network = nn.Sequential(
            nn.Flatten(), nn.Dropout(0.1), nn.Linear(pixels, code), nn.Linear(code, pixels)
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images).reshape(images.shape)  # type: ignore[no-any-return]

    def loss(self, batch: Batch, part: str) -> Tensor:
        images, _ = batch
        loss = mse_loss(self(images), images)
        self.log(f"{part}/loss", loss, on_step=part == "train", on_epoch=True)
        self.log(f"{part}/psnr", -10 * loss.log10(), on_step=False, on_epoch=True)
        return loss

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self.loss(batch, "train")

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.loss(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self.loss(batch, "test")

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=self.lr)
        step = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=1.0)
        return [optimizer], [step, {"scheduler": plateau, "monitor": "val/loss"}]


class Untold(LightningModule):
    """Has no optimizer of its own, gives logits, and logs by a name with an underscore."""

    def __init__(self, image_shape: Sequence[int], num_classes: int) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Flatten(), nn.Linear(prod(image_shape), num_classes))

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)  # type: ignore[no-any-return]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        images, labels = batch
        loss = cross_entropy(self(images), labels)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss


def own(folder: Path, name: str, *overrides: str) -> Trial:
    return composed(
        folder,
        f"model={{_target_:tests.run.test_own_module.{name}}}",
        "~model.hidden",
        "~model.dropout",
        "~model.activation",
        "~model.init",
        "trainer.limit_train_batches=5",
        *overrides,
    )


def weights(folder: Path, file: str = "last") -> dict[str, Tensor]:
    content = torch.load(folder / "checkpoints" / f"{file}.ckpt", weights_only=True)
    state: dict[str, Tensor] = content["state_dict"]
    return state


def test_its_own_steps_train_it_and_what_it_logs_is_recorded(tmp_path: Path) -> None:
    trial = own(tmp_path, "Autoencoder", "objective=val/psnr", "trainer.max_epochs=2")
    [result] = train([trial])
    assert result.status == Status.COMPLETED
    assert result.engine == "eager"
    rows = read_rows(tmp_path / "metrics.csv")
    assert list(rows[0]) == [
        "epoch", "step", "train/loss", "train/psnr", "val/loss", "val/psnr", "lr", "seconds",
    ]  # fmt: skip
    assert [row["lr"] for row in rows] == [0.01, 0.0005]
    best = max(rows, key=lambda row: row["val/psnr"])
    assert (result.objective, result.best_epoch) == (best["val/psnr"], best["epoch"])
    assert {"test/loss", "test/psnr", "val/loss"} <= set(result.metrics)


def test_an_epoch_is_bit_equal_to_a_hand_written_loop(tmp_path: Path) -> None:
    overrides = ("optimizer=adam", "objective=train_loss", "trainer.max_epochs=1")
    train([own(tmp_path, "Untold", *overrides)])
    data = Digits(val_size=300)
    data.setup()
    torch.manual_seed(1)
    expected = Untold((1, 28, 28), 10)
    optimizer = torch.optim.Adam(expected.parameters(), lr=0.001, eps=1e-7)  # of conf/optimizer
    for (images, labels), _ in zip(
        ShuffledMinibatches(data.train_samples, 32, seed=1), range(5), strict=False
    ):
        optimizer.zero_grad()
        cross_entropy(expected(images), labels).backward()
        optimizer.step()
    for name, value in expected.state_dict().items():
        assert torch.equal(weights(tmp_path)[name], value), name


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("Autoencoder", ["objective=val/loss"]),
        (
            "Untold",
            [
                "objective=train_loss",
                "test=false",
                "schedule=plateau",
                "schedule.patience=0",
                "schedule.threshold=0.9",
            ],
        ),
    ],
)
def test_one_that_goes_on_equals_one_that_was_never_stopped(
    name: str, overrides: list[str], tmp_path: Path
) -> None:
    trials = [
        own(tmp_path / part, name, *overrides, "trainer.max_epochs=4")
        for part in ("whole", "parts")
    ]
    train(trials[:1])
    write_config(trials[1].folder, _config(trials[1]))
    train([replace(trials[1], until=2)])
    train([replace(trials[1], resume=True)])
    whole, parts = (
        [row | {"seconds": 0.0} for row in read_rows(trial.folder / "metrics.csv")]
        for trial in trials
    )
    assert parts == whole
    assert len({row["lr"] for row in whole}) > 2
    for name, value in weights(trials[0].folder).items():
        assert torch.equal(weights(trials[1].folder)[name], value), name
    results = [Result.of(trial.folder) for trial in trials]
    assert results[0].metrics == results[1].metrics


def _config(trial: Trial) -> Any:
    from omegaconf import OmegaConf

    return OmegaConf.create(dict(trial.config.values))


def test_its_class_loads_its_checkpoints(tmp_path: Path) -> None:
    train(
        [
            own(
                tmp_path,
                "Autoencoder",
                "+model.code=3",
                "objective=val/loss",
                "trainer.max_epochs=1",
            )
        ]
    )
    file = tmp_path / "checkpoints" / "best.ckpt"
    loaded = Autoencoder.load_from_checkpoint(file, weights_only=True)
    assert loaded.network[2].weight.shape == (3, 784)
    with pytest.raises(UserError, match=r"must give logits \[2, 10\], got \[2, 1, 28, 28\]; load"):
        best_classifier(tmp_path)


def test_one_that_gives_logits_can_be_asked_for_classes(tmp_path: Path) -> None:
    train([own(tmp_path, "Untold", "objective=train_loss", "trainer.max_epochs=1")])
    assert best_classifier(tmp_path)(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


def test_an_objective_that_it_does_not_log_is_refused_with_what_it_does(tmp_path: Path) -> None:
    expected = (
        r"objective must be a metric that tests.run.test_own_module.Untold logs, which are "
        r"train_loss, got val/acc; try objective=train_loss"
    )
    with pytest.raises(UserError, match=expected):
        train([own(tmp_path, "Untold", "trainer.max_epochs=1")])


def test_one_whose_loss_is_not_finite_has_diverged(tmp_path: Path) -> None:
    overrides = ("+model.lr=1e30", "objective=val/loss", "trainer.max_epochs=3")
    [result] = train([own(tmp_path, "Autoencoder", *overrides)])
    assert (result.status, result.epochs) == (Status.DIVERGED, 0)


def test_metrics_of_logits_are_not_for_it(tmp_path: Path) -> None:
    f1 = "+metrics.f1={_target_: torchmetrics.classification.MulticlassF1Score}"
    with pytest.raises(UserError, match=r"got f1 with tests\.run\.test_own_module\.Autoencoder"):
        rehearse([own(tmp_path, "Autoencoder", f1).config])


def test_the_stacked_engine_says_why_not(tmp_path: Path) -> None:
    trial = own(tmp_path, "Autoencoder", "objective=val/elbo")
    rehearse([trial.config])  # what it logs is not known yet
    [planned] = plan([trial.config])
    assert planned.eager is not None
    assert "a LightningModule with training steps of its own" in planned.eager
    with pytest.raises(UserError, match=r"engine=stacked cannot train with model\._target_="):
        plan([own(tmp_path, "Autoencoder", "engine=stacked").config])
