"""What a run leaves behind, from the command line on the bundled digits."""

import csv
import json
import logging
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure

from tests.conftest import Ended, composed
from trialstack.run import figures
from trialstack.run.history import line
from trialstack.run.report import Report
from trialstack.run.state import State
from trialstack.run.timing import Timing

Command = Callable[..., Ended]
QUICK = ("trainer.max_epochs=3", "model.hidden=[32]", "callbacks=none")
QUIET = (*QUICK, "logger=none")


@pytest.fixture
def run(command: Command) -> Callable[..., tuple[Ended, Path]]:
    """Train into `outputs/runs/NAME`, whatever it is called, and return the end and the folder."""

    def start(*overrides: str) -> tuple[Ended, Path]:
        ended = command("train.py", *QUICK, *overrides)
        [folder] = Path("outputs/runs").iterdir()
        return ended, folder

    return start


Run = Callable[..., tuple[Ended, Path]]


def test_a_run_folder_has_everything_that_a_run_leaves(run: Run) -> None:
    ended, folder = run("seed=5")
    assert ended.code == 0, ended.err
    assert folder.name.startswith("digits-mlp300-20")
    names = {path.name for path in folder.iterdir() if "tfevents" not in path.name}
    assert names == {
        ".hydra",
        "checkpoints",
        "history.png",
        "hparams.yaml",
        "metrics.csv",
        "result.json",
        "train.log",
    }
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    result = json.loads((folder / "result.json").read_text())
    assert result["status"] == "completed"
    assert result["objective"] == result["metrics"]["val/acc"]
    assert set(result["metrics"]) == {
        f"{part}/{x}" for part in ("train", "val", "test") for x in ("loss", "acc")
    }
    assert result["epochs"] == 3
    assert 1 <= result["best_epoch"] <= 3
    assert (result["engine"], result["stack_size"], result["parameters"]) == (
        "stacked",
        1,
        784 * 32 + 32 + 330,
    )
    parts = {"startup", "data", "training", "validation", "logging", "checkpoints", "test"}
    assert set(result["seconds"]) == parts | {"fit", "total"}
    assert all(result["seconds"][part] > 0 for part in parts)
    assert sum(result["seconds"][part] for part in parts) <= result["seconds"]["total"]
    assert result["overrides"] == [*QUICK, "seed=5"]
    assert result["data"]["name"] == "Digits"
    assert {"python", "torch", "lightning", "hydra-core", "trialstack"} <= set(result["versions"])


def metrics(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "metrics.csv").read_text().splitlines()))


def test_metrics_csv_has_a_row_an_epoch_against_optimizer_steps(run: Run) -> None:
    _, folder = run("logger=none")
    rows = metrics(folder)
    assert [(row["epoch"], row["step"]) for row in rows] == [("1", "38"), ("2", "76"), ("3", "114")]
    assert all(float(row[name]) > 0 for row in rows for name in row)


def test_lr_is_the_rate_of_the_epochs_last_step(run: Run) -> None:
    _, folder = run("logger=none", "schedule=cosine")
    expected = [0.01 * (1 + math.cos(math.pi * (step - 1) / 114)) / 2 for step in (38, 76, 114)]
    assert [float(row["lr"]) for row in metrics(folder)] == pytest.approx(expected)


def test_the_run_prints_config_model_epochs_results_and_folder(run: Run) -> None:
    ended, folder = run("logger=none", "hydra.verbose=false")
    for part in (
        "config: trainer.max_epochs=3 model.hidden=[32]\n",
        "Linear",
        "[B, 32]",
        "25,120",
        "Parameters: 25,450",
        "epoch 3/3",
        "best epoch",
    ):
        assert part in ended.out
    assert f"completed: {folder}" in ended.out
    assert "epoch 3/3" in (folder / "train.log").read_text()
    for noise in ("GPU available", "Tip", "LOCAL_RANK", "Sanity"):
        assert noise not in ended.out + ended.err


def test_the_config_is_shown_where_it_differs_from_the_defaults(command: Command) -> None:
    ended = command("train.py", "model=mlp128", *QUICK, "hydra.run.dir=a", "logger=none")
    shown, _, _ = ended.out.partition("\n\n")
    assert max(map(len, shown.splitlines())) <= 80
    for part in (
        "trainer.max_epochs=3",
        "optimizer.lr=0.001",
        "optimizer.betas=[0.9, 0.999]",
        "model.dropout=0.2",
    ):
        assert part in shown
    assert "seed" not in shown
    again = command("train.py", "resume=a", "trainer.max_epochs=4").out
    assert again.startswith(shown.replace("max_epochs=3", "max_epochs=4"))


def test_the_whole_config_is_shown_on_demand(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trial = composed(tmp_path, *QUICK)
    report = Report(trial, State(trial, []), Timing())
    for level, whole in ((logging.INFO, False), (logging.DEBUG, True)):
        caplog.clear()
        with caplog.at_level(level, "trialstack"):  # as hydra.verbose=trialstack has it
            report.show_config()
        assert ("hidden:\n  - 32" in caplog.text) == whole


def test_the_trainer_may_be_told_to_show_no_bar(run: Run) -> None:
    ended, folder = run("logger=none", "+trainer.enable_progress_bar=false")
    assert f"completed: {folder}" in ended.out


EPOCH = {
    "epoch": 1,
    "step": 38,
    "train/loss": 2.1495,
    "train/acc": 0.2817,
    "val/loss": 1.9313,
    "val/acc": 0.4667,
}


def test_an_epoch_is_a_line() -> None:
    row = EPOCH | {"seconds": 0.125, "lr": 0.01}
    assert (
        line([row], 30)
        == "epoch  1/30   0.1 s  loss 2.1495 val 1.9313  acc 0.2817 val 0.4667  lr 0.01"
    )
    better = row | {"val/acc": 0.5, "train/loss": 2.0}
    assert (
        line([row, better], 3)
        == "epoch 1/3   0.1 s  best of 2:  loss 2.0000 val 1.9313  acc 0.2817 val 0.5000"
    )


@pytest.mark.parametrize("trials", [1, 64, 1000])
@pytest.mark.parametrize(("epochs", "seconds"), [(30, 9.9), (200, 99.9), (1000, 1234.5)])
@pytest.mark.parametrize("loss", [2.1495, 1e30])
def test_the_line_of_an_epoch_fits_a_terminal(
    trials: int, epochs: int, seconds: float, loss: float
) -> None:
    row = EPOCH | {"epoch": epochs, "seconds": seconds, "lr": 1.23456e-5, "train/loss": loss}
    assert len(line([row] * trials, epochs)) <= 80


def test_the_picture_of_the_history_has_the_runs_name(
    monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    saved: list[Figure] = []
    monkeypatch.setattr(figures, "save", lambda figure, path: saved.append(figure))
    _, folder = run("logger=none")
    assert [figure.get_suptitle() for figure in saved] == [folder.name]


def test_the_same_seed_gives_bit_equal_weights_and_another_seed_others(command: Command) -> None:
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert (
            command(
                "train.py", *QUIET, "model.dropout=0.2", f"seed={seed}", f"hydra.run.dir={folder}"
            ).code
            == 0
        )
    a, b, c = (weights(Path(folder)) for folder in "abc")
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not any(torch.equal(a[name], c[name]) for name in a)


def weights(folder: Path, name: str = "best") -> dict[str, torch.Tensor]:
    checkpoint = torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)
    return dict(checkpoint["state_dict"])


def test_best_is_the_epoch_with_the_best_objective(command: Command) -> None:
    assert command("train.py", *QUIET, "objective=train/loss", "hydra.run.dir=a").code == 0
    result = json.loads(Path("a/result.json").read_text())
    assert result["best_epoch"] == 3
    assert result["objective"] == result["metrics"]["train/loss"]
    best, last = weights(Path("a")), weights(Path("a"), "last")
    assert all(torch.equal(best[name], last[name]) for name in best)


@pytest.mark.parametrize("engine", ["stacked", "eager"])
def test_a_diverged_run_keeps_its_best_checkpoint_and_ends_with_1(
    engine: str, command: Command
) -> None:
    explode = ("schedule=step", "schedule.step_size=2", "schedule.gamma=1e30", f"engine={engine}")
    ended = command("train.py", *QUIET, *explode, "hydra.run.dir=a")
    result = json.loads(Path("a/result.json").read_text())
    assert (ended.code, result["status"], result["epochs"], result["best_epoch"]) == (
        1,
        "diverged",
        2,
        2,
    )
    assert result["metrics"]["test/acc"] > 0.5
    assert "diverged: the loss became NaN or infinite in epoch 3" in ended.out
    assert all(weight.isfinite().all() for weight in weights(Path("a")).values())
    assert "Traceback" not in ended.err


def test_a_diverged_trial_does_not_fail_a_sweep(command: Command) -> None:
    ended = command("train.py", "-m", *QUIET, "optimizer.lr=0.1,1e30", "hydra.sweep.dir=s")
    assert ended.code == 0, ended.err
    statuses = [json.loads(Path(f"s/{job}/result.json").read_text())["status"] for job in (0, 1)]
    assert statuses == ["completed", "diverged"]
    assert not Path("s/1/checkpoints").exists()


def test_early_stopping_ends_a_run_that_no_longer_improves(command: Command) -> None:
    ended = command(
        "train.py", *QUICK[1:2], "callbacks=early_stopping", "callbacks.early_stopping.patience=2",
        "optimizer.lr=0.0", "trainer.max_epochs=20", "logger=none", "hydra.run.dir=a",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    assert json.loads(Path("a/result.json").read_text())["epochs"] == 3


def test_without_test_the_test_set_is_left_alone(command: Command) -> None:
    assert command("train.py", *QUIET, "test=false", "hydra.run.dir=a").code == 0
    assert not [
        name
        for name in json.loads(Path("a/result.json").read_text())["metrics"]
        if name.startswith("test")
    ]


def test_epochs_without_validation_have_no_validation_metrics(command: Command) -> None:
    assert (
        command("train.py", *QUIET, "trainer.check_val_every_n_epoch=2", "hydra.run.dir=a").code
        == 0
    )
    rows = metrics(Path("a"))
    assert [bool(row["val/loss"]) for row in rows] == [False, True, False]
    assert json.loads(Path("a/result.json").read_text())["best_epoch"] == 2


def test_optimizer_steps_are_what_limit_train_batches_counts(command: Command) -> None:
    assert command("train.py", *QUIET, "trainer.limit_train_batches=7", "hydra.run.dir=a").code == 0
    assert [row["step"] for row in metrics(Path("a"))] == ["7", "14", "21"]


@pytest.mark.filterwarnings("ignore")
def test_bf16_true_trains_on_the_eager_engine(command: Command) -> None:
    ended = command("train.py", *QUIET, "trainer.precision=bf16-true", "hydra.run.dir=a")
    assert ended.code == 0, ended.err
    result = json.loads(Path("a/result.json").read_text())
    assert (result["status"], result["engine"]) == ("completed", "eager")
    hits = 1200 * result["metrics"]["train/acc"]
    assert hits == pytest.approx(round(hits), abs=1e-3)


@pytest.mark.parametrize("allowed", [False, True])
def test_tf32_is_what_the_config_says(allowed: bool, run: Run) -> None:
    torch.backends.cuda.matmul.allow_tf32 = not allowed
    run(f"engine.tf32={str(allowed).lower()}", "trainer.max_epochs=1", "test=false", "logger=none")
    try:
        assert torch.backends.cuda.matmul.allow_tf32 == allowed
        assert torch.backends.cudnn.allow_tf32 == allowed
    finally:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
