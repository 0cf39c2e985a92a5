"""The eager engine against plain PyTorch."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import ReduceLROnPlateau

from tests.conftest import ROOT, composed, longer
from tests.run.test_runs import metrics, weights
from trialstack.core.errors import Diverged
from trialstack.data.datamodule import Digits
from trialstack.data.minibatches import ShuffledMinibatches
from trialstack.engine.eager import Classifier, EpochMetrics, hyperparameters
from trialstack.engine.shortest import shortest
from trialstack.run.evaluation import evaluate
from trialstack.run.restore import best_classifier
from trialstack.run.train import train
from trialstack.run.trial import compose_trial, resume_trial


def parts(folder: Path, *overrides: str) -> tuple[Classifier, Digits]:
    config = composed(folder, "model.hidden=[16]", *overrides).config
    data = Digits(val_size=300, seed=config.seed)
    data.setup()
    return Classifier(**hyperparameters(config, data)), data


OPTIMIZERS = {
    "optimizer=sgd": lambda p: torch.optim.SGD(p, lr=0.01),
    "optimizer.momentum=0.9": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9),
    "optimizer=adam": lambda p: torch.optim.Adam(p, lr=0.001, eps=1e-7),
    "optimizer=adamw": lambda p: torch.optim.AdamW(p, lr=0.001, eps=1e-7, weight_decay=0.01),
}


@pytest.mark.parametrize("override", OPTIMIZERS)
def test_two_epochs_are_bit_equal_to_a_hand_written_loop(override: str, tmp_path: Path) -> None:
    trial = composed(
        tmp_path,
        "model.hidden=[16]",
        "trainer.max_epochs=2",
        "test=false",
        "engine=eager",
        override,
    )
    train([trial])
    trained = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]

    expected, data = parts(tmp_path, override)
    optimizer = OPTIMIZERS[override](expected.parameters())
    minibatches = ShuffledMinibatches(data.train_samples, 32, seed=1)
    for epoch in range(2):
        minibatches.set_epoch(epoch)
        for images, labels in minibatches:
            optimizer.zero_grad()
            cross_entropy(expected(images), labels).backward()
            optimizer.step()
    for name, value in expected.state_dict().items():
        assert torch.equal(trained[name], value), name


def test_initial_weights_depend_on_the_seed_alone(tmp_path: Path) -> None:
    def initial(*overrides: str) -> torch.Tensor:
        weight: torch.Tensor = parts(tmp_path, *overrides)[0].state_dict()["network.1.weight"]
        return weight

    torch.manual_seed(5)
    first = initial()
    torch.manual_seed(6)
    assert torch.equal(first, initial())
    assert not torch.equal(first, initial("seed=2"))


def test_plateau_reduces_the_rate_as_torchs_scheduler_does_and_goes_on_bit_equal(
    tmp_path: Path,
) -> None:
    common = (
        "callbacks=none", "logger=none", "model.hidden=[16]", "test=false", "objective=val/loss",
        "trainer.limit_train_batches=5", "schedule=plateau", "schedule.factor=0.5",
        "schedule.patience=0", "schedule.threshold=0.5",
    )  # fmt: skip
    for name, epochs in (("whole", 6), ("parts", 3)):
        overrides = [*common, f"trainer.max_epochs={epochs}"]
        train([compose_trial(overrides, tmp_path / name, ROOT / "conf")])
    train([longer(resume_trial(tmp_path / "parts"), epochs=6)])

    rows = metrics(tmp_path / "whole")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.01)
    scheduler = ReduceLROnPlateau(optimizer, "min", factor=0.5, patience=0, threshold=0.5)
    for row in rows:
        assert float(row["lr"]) == optimizer.param_groups[0]["lr"]
        scheduler.step(float(row["val/loss"]))
    assert float(rows[3]["lr"]) < float(rows[2]["lr"])  # reduced where the other one stopped

    others = metrics(tmp_path / "parts")
    assert [row | {"seconds": ""} for row in others] == [row | {"seconds": ""} for row in rows]
    resumed, expected = (weights(tmp_path / name, "last") for name in ("parts", "whole"))
    assert all(torch.equal(resumed[name], expected[name]) for name in expected)


def test_plateau_waits_for_a_validation(tmp_path: Path) -> None:
    overrides = (
        "model.hidden=[16]", "test=false", "trainer.limit_train_batches=2", "trainer.max_epochs=4",
        "trainer.check_val_every_n_epoch=2", "schedule=plateau", "schedule.monitor=val/loss",
        "schedule.patience=0", "schedule.threshold=0.9",
    )  # fmt: skip
    train([composed(tmp_path, *overrides, "optimizer.lr=0.01")])
    assert [float(row["lr"]) for row in metrics(tmp_path)] == [0.01] * 4


def test_epoch_metrics_are_means_over_samples() -> None:
    torch.manual_seed(1)
    logits, labels = torch.randn(50, 4), torch.randint(4, (50,))
    metrics = EpochMetrics()
    for part, answers in zip(logits.split(16), labels.split(16), strict=True):
        metrics.record(cross_entropy(part, answers), part, answers)
    loss, accuracy = metrics.finish()
    assert loss == pytest.approx(float(cross_entropy(logits, labels)), rel=1e-6)  # float32
    assert accuracy == pytest.approx(float((logits.argmax(1) == labels).double().mean()), rel=1e-6)


def test_epoch_metrics_of_a_module_in_16_bits_count_every_sample() -> None:
    metrics = EpochMetrics().to(torch.bfloat16)
    for _ in range(40):
        logits, labels = torch.eye(4, dtype=torch.bfloat16).repeat(8, 1), torch.arange(4).repeat(8)
        labels[0] = 1
        metrics.record(torch.tensor(0.3, dtype=torch.bfloat16), logits, labels)
    loss, accuracy = metrics.finish()
    assert loss == pytest.approx(0.3, rel=2**-8)  # of each loss
    assert accuracy == 31 / 32


def test_epoch_metrics_start_anew_and_keep_nan() -> None:
    metrics = EpochMetrics()
    metrics.record(torch.tensor(float("nan")), torch.zeros(2, 4), torch.zeros(2, dtype=torch.int64))
    loss, _ = metrics.finish()
    assert loss != loss
    metrics.record(torch.tensor(1.0), torch.zeros(2, 4), torch.zeros(2, dtype=torch.int64))
    assert metrics.finish() == (1.0, 1.0)


def test_shortest_is_the_decimal_that_a_person_would_write() -> None:
    assert shortest(torch.tensor(256 / 300)) == 0.85333335  # float32's nearest to 256/300


def plain_trainer(folder: Path, **settings: Any) -> Trainer:
    return Trainer(
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        **settings,
    )


@pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated")
@pytest.mark.filterwarnings("ignore:You called `self.log")
def test_it_is_an_ordinary_lightning_module(tmp_path: Path) -> None:
    classifier, data = parts(tmp_path)
    trainer = plain_trainer(tmp_path, max_epochs=2, accelerator="cpu")
    trainer.fit(classifier, datamodule=data)
    assert {"train/loss", "train/acc", "val/loss", "val/acc", "lr"} <= set(trainer.callback_metrics)
    [tested] = trainer.test(classifier, datamodule=data, verbose=False)
    ours = evaluate(classifier, data.test_samples)
    assert tested == {
        "test/loss": pytest.approx(ours.loss, rel=1e-6),
        "test/acc": pytest.approx(ours.accuracy),
    }


@pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated")
def test_a_loss_that_is_not_finite_raises_with_its_epoch(tmp_path: Path) -> None:
    classifier, data = parts(tmp_path, "optimizer.lr=1e30")
    with pytest.raises(Diverged) as caught:
        plain_trainer(tmp_path, max_epochs=3, accelerator="cpu").fit(classifier, datamodule=data)
    assert caught.value.epoch == 1


def test_a_checkpoint_is_primitives_and_tensors_that_lightning_loads(tmp_path: Path) -> None:
    [result] = train(
        [
            composed(
                tmp_path,
                "model.hidden=[16]",
                "trainer.max_epochs=2",
                "schedule=cosine",
                "engine=eager",
            )
        ]
    )
    file = tmp_path / "checkpoints" / "best.ckpt"
    loaded = Classifier.load_from_checkpoint(file, weights_only=True).eval()
    ours = best_classifier(tmp_path)
    images = torch.rand(3, 1, 28, 28)
    assert torch.equal(loaded(images), ours(images))
    assert loaded.spec.class_names == tuple("0123456789")
    assert result.parameters == 784 * 16 + 16 + 16 * 10 + 10
