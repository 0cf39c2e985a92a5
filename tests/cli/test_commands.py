"""The commands as a user meets them: help, configs, devices, evaluation, prediction."""

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from PIL import Image

from tests.conftest import ROOT, Ended, composed
from tests.forked import Forked
from tests.run.test_runs import weights
from trialstack.core.parse import parse, resolved
from trialstack.data.image_files import read_image
from trialstack.run.train import train

Command = Callable[..., Ended]


LIGHT = [
    "train.py --help",
    "train.py --cfg job",
    "train.py data.batch_size=0",
    "train.py data=fashion data.val_size=60000",
    "train.py +compile=true",
    "train.py model=mlp200",
    "train.py resume=nowhere",
    "evaluate.py run=nowhere",
    "predict.py --help",
    "export.py run=nowhere",
    "report.py sweep=nothing",
    "verify.py trial=nowhere",
]
LOADED = """
import json, os, runpy, sys
import hydra

for number, command in enumerate(sys.argv[2:]):
    if os.fork() == 0:
        script, *arguments = command.split()
        sys.argv = [f"{sys.argv[1]}/{script}", *arguments]
        sys.stdout = sys.stderr = open(os.devnull, "w")
        try:
            runpy.run_path(sys.argv[0], run_name="__main__")
        finally:
            json.dump(list(sys.modules), open(f"{number}.json", "w"))
            os._exit(0)
    os.wait()
"""
"""Runs each command in a fork, and writes down what it has loaded at its end."""


@pytest.mark.commands
def test_what_needs_no_training_loads_neither_torch_nor_lightning(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", LOADED, ROOT, *LIGHT], cwd=tmp_path, check=True)
    for number, command in enumerate(LIGHT):
        modules = json.loads((tmp_path / f"{number}.json").read_text())
        assert "trialstack.cli.command" in modules, command
        heavy = {"torch", "lightning", "matplotlib", "tensorboard", "rich.table"}
        assert not heavy & set(modules), command


def test_help_has_groups_options_examples_and_outputs(command: Command) -> None:
    ended = command("train.py", "--help")
    assert ended.code == 0
    for group in (
        "data",
        "model",
        "optimizer",
        "schedule",
        "loss",
        "metrics",
        "engine",
        "trainer",
        "logger",
        "callbacks",
        "halving",
        "experiment",
    ):
        options = sorted(path.stem for path in (ROOT / "conf" / group).glob("*.yaml"))
        assert f"{group}: {', '.join(options)}" in ended.out
    assert ended.out.count("  python train.py") == 6
    assert "outputs/runs/" in ended.out
    assert max(map(len, ended.out.splitlines())) <= 120


GROUPS = [
    f"{path.parent.name}={path.stem}"
    for path in sorted((ROOT / "conf").glob("*/*.yaml"))
    if path.parent.name != "hydra"
]


@pytest.mark.parametrize("option", GROUPS)
def test_every_shipped_option_keeps_the_rules(option: str) -> None:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        parse(resolved(compose("train", [option, "folder=somewhere"])))


@pytest.mark.parametrize(
    "option", [name for name in GROUPS if not name.startswith(("data", "trainer", "experiment"))]
)
def test_every_shipped_option_trains(option: str, command: Command) -> None:
    if option in ("logger=mlflow", "logger=wandb"):  # extras of their own
        pytest.importorskip(option.partition("=")[2])
    few = ("trainer.max_epochs=2", "trainer.limit_train_batches=3", "test=false")
    sweep = ["-m"] if option.startswith("halving") else []
    quiet = [] if option.startswith("logger") else ["logger=none"]
    ended = command("train.py", *sweep, option, *few, *quiet)
    assert ended.code == 0, ended.err


def test_a_model_brings_its_articles_recipe_and_can_be_overridden() -> None:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        mlp300, mlp128 = compose("train", ["model=mlp300"]), compose("train", ["model=mlp128"])
        changed = compose("train", ["model=mlp128", "optimizer=sgd", "trainer.max_epochs=7"])
        debug = compose("train", ["trainer=debug"])
    assert (mlp300.optimizer._target_, mlp300.optimizer.lr, mlp300.trainer.max_epochs) == (
        "torch.optim.SGD",
        0.01,
        30,
    )
    assert (mlp128.optimizer._target_, mlp128.optimizer.lr, mlp128.trainer.max_epochs) == (
        "torch.optim.Adam",
        0.001,
        5,
    )
    assert (mlp128.optimizer.eps, mlp128.model.dropout, mlp128.data.batch_size) == (1e-7, 0.2, 32)
    assert (changed.optimizer._target_, changed.trainer.max_epochs) == ("torch.optim.SGD", 7)
    assert debug.trainer.max_epochs == 2


@pytest.mark.parametrize(
    "overrides", [["experiment=article_mnist"], ["experiment=article_fashion"]]
)
def test_experiments_train(overrides: list[str], command: Command, data_root: Path) -> None:
    ended = command("train.py", *overrides, "trainer.max_epochs=1", "hydra.run.dir=a")
    assert ended.code == 0, ended.err


def test_a_fast_dev_run_goes_through(command: Command) -> None:
    ended = command("train.py", "trainer.fast_dev_run=2", "hydra.run.dir=a")
    assert ended.code == 0, ended.err
    assert json.loads(Path("a/result.json").read_text())["epochs"] == 1


def test_two_processes_train_as_one(fork: Callable[..., Forked], tmp_path: Path) -> None:
    trial = ["model.hidden=[16]", "trainer.max_epochs=2", "logger=none"]
    running = fork(
        "train.py",
        "trainer=ddp",
        "trainer.accelerator=cpu",
        "trainer.devices=2",
        *trial,
        "hydra.run.dir=two",
    )
    out, err = running.communicate()
    assert running.returncode == 0, err
    assert out.count("epoch 2/2") == 1
    train([composed(tmp_path / "one", *trial)])
    one, two = weights(tmp_path / "one", "last"), weights(tmp_path / "two", "last")
    for name in one:
        torch.testing.assert_close(
            one[name], two[name], rtol=1e-4, atol=1e-6
        )  # float32, sums in another order
    results = [
        json.loads((tmp_path / folder / "result.json").read_text()) for folder in ("one", "two")
    ]
    assert results[0]["metrics"] == pytest.approx(results[1]["metrics"], abs=1e-3)


def test_a_sweep_of_distributed_runs_is_refused(command: Command) -> None:
    ended = command("train.py", "-m", "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")
    assert ended.code == 2
    assert "trainer.devices=1 must hold in a sweep, got 2" in ended.err
    assert "Traceback" not in ended.err


@pytest.fixture
def run(trained_run: Callable[..., Path]) -> Path:
    return trained_run("model.hidden=[32]", "trainer.max_epochs=15", "optimizer.lr=0.1")


def test_evaluate_measures_what_the_run_measured(run: Path, command: Command) -> None:
    ended = command("evaluate.py", f"run={run}")
    assert ended.code == 0, ended.err
    tested = json.loads((run / "result.json").read_text())["metrics"]
    evaluation = json.loads((run / "evaluation.json").read_text())
    assert (evaluation["loss"], evaluation["accuracy"]) == (tested["test/loss"], tested["test/acc"])
    confusion = np.array(evaluation["confusion_matrix"])
    assert confusion.sum() == evaluation["samples"] == 297
    assert confusion.trace() / 297 == pytest.approx(evaluation["accuracy"], rel=1e-6)
    for label, numbers in enumerate(evaluation["classes"].values()):
        assert numbers["recall"] == pytest.approx(
            confusion[label, label] / confusion[label].sum(), rel=1e-6
        )
        assert numbers["precision"] == pytest.approx(
            confusion[label, label] / confusion[:, label].sum(), rel=1e-6
        )
    assert (run / "evaluation.png").read_bytes().startswith(b"\x89PNG")
    for part in (
        "Precision",
        "Recall",
        "Confusion matrix",
        f"accuracy {evaluation['accuracy']:.4f}",
    ):
        assert part in ended.out


def test_predict_ends_with_labels_and_class_names(run: Path, command: Command) -> None:
    ended = command("predict.py", f"run={run}", "index=[0,5,296]", "output=labels.csv")
    assert ended.code == 0, ended.err
    rows = list(csv.DictReader(Path("labels.csv").read_text().splitlines()))
    assert [row["image"] for row in rows] == ["0", "5", "296"]
    labels = " ".join(row["label"] for row in rows)
    names = " ".join(f"'{row['class_name']}'" for row in rows)
    assert f"[{labels}] [{names}]" in ended.out
    assert command("predict.py", f"run={run}", "index=[0]", "output=labels.json").code == 0
    [row] = json.loads(Path("labels.json").read_text())
    assert str(row["label"]) == rows[0]["label"]
    assert [float(rows[0][f"probability/{digit}"]) for digit in "0123456789"] == pytest.approx(
        list(row["probabilities"].values()), rel=1e-4
    )  # float32, of one image and of three
    assert row["probabilities"][row["class_name"]] == row["probability"]
    assert sum(row["probabilities"].values()) == pytest.approx(1)


def test_predict_classifies_the_whole_test_set(run: Path, command: Command) -> None:
    ended = command("predict.py", f"run={run}", "index=all", "output=all.csv")
    assert ended.code == 0, ended.err
    rows = list(csv.DictReader(Path("all.csv").read_text().splitlines()))
    assert [int(row["image"]) for row in rows] == list(range(297))
    right = sum(row["label"] == row["true_label"] for row in rows)
    tested = json.loads((run / "result.json").read_text())["metrics"]
    assert right / 297 == pytest.approx(tested["test/acc"])
    assert len(ended.out.splitlines()) < 20
    assert "297 images" in ended.out
    one = command("predict.py", f"run={run}", "index=0").out
    columns = ("image", "label", "class_name", "probability", "true_label", "true_class")
    cells = [rows[0][name] for name in columns]
    cells[3] = f"{float(cells[3]):.4f}"
    assert cells in [line.split() for line in one.splitlines()]


def test_predict_works_on_images_elsewhere_without_the_data(
    command: Command, data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (
        command("train.py", "data=fashion", "trainer.max_epochs=20", "hydra.run.dir=here/run").code
        == 0
    )
    from trialstack.data.datamodule import FashionMNIST

    images = FashionMNIST(str(data_root)).read().test_images
    Image.fromarray(images[3]).save("three.png")
    Image.fromarray(255 - images[3]).convert("RGB").resize(
        (280, 280), Image.Resampling.NEAREST
    ).save("inverted.jpg")
    Path("here").rename("there")
    monkeypatch.setenv("DATA_ROOT", "/nonexistent")
    ended = command("predict.py", "run=there/run", "images=[three.png,inverted.jpg]")
    assert ended.code == 0, ended.err
    assert ended.out.splitlines()[-1].startswith("[3 3] ")


SHAPE = (1, 28, 28)


@pytest.fixture
def digit(tmp_path: Path) -> np.ndarray:
    """A bright shape on a dark ground."""
    pixels = np.zeros((28, 28), np.uint8)
    pixels[8:20, 10:18] = 200
    return pixels


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F"])
@pytest.mark.parametrize("size", [28, 112])
def test_images_of_any_mode_and_size_are_read(
    mode: str, size: int, digit: np.ndarray, tmp_path: Path
) -> None:
    grey = Image.fromarray(digit).resize((size, size), Image.Resampling.NEAREST)
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    picture = deep if mode == "I;16" else grey.convert(mode)
    file = tmp_path / ("a.png" if mode not in ("CMYK", "F") else "a.tiff")
    picture.save(file)
    pixels = read_image(file, SHAPE, "auto")
    assert (pixels.shape, pixels.dtype) == (SHAPE, torch.uint8)
    assert pixels[0, 14, 14] > 190
    assert pixels[0, 2, 2] < 10


def test_a_dark_drawing_on_a_light_ground_is_inverted(digit: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(255 - digit).save(tmp_path / "a.png")
    expected = torch.tensor(digit)[None]
    assert torch.equal(read_image(tmp_path / "a.png", SHAPE, "auto"), expected)
    assert torch.equal(read_image(tmp_path / "a.png", SHAPE, True), expected)
    assert torch.equal(read_image(tmp_path / "a.png", SHAPE, False), 255 - expected)


def test_transparency_is_paper(digit: np.ndarray, tmp_path: Path) -> None:
    ink = np.zeros((28, 28, 4), np.uint8)
    ink[..., 3] = digit
    Image.fromarray(ink).save(tmp_path / "a.png")
    assert torch.equal(read_image(tmp_path / "a.png", SHAPE, "auto"), torch.tensor(digit)[None])


def test_a_picture_that_is_not_square_keeps_its_proportions(
    digit: np.ndarray, tmp_path: Path
) -> None:
    wide = np.pad(digit, ((0, 0), (28, 28)))
    Image.fromarray(wide).save(tmp_path / "a.png")
    pixels = read_image(tmp_path / "a.png", SHAPE, "auto")[0] > 100
    assert pixels.any(1).sum() / pixels.any(0).sum() == pytest.approx(
        12 / 8, rel=0.35
    )  # of 4 by 3 pixels
