"""Trials of a stack that end at different epochs, each where it would end alone, and with what it
would have alone.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import Timer

from tests.conftest import ROOT, Ended, longer
from tests.engine.test_stacked import assert_close, interrupt_after, same
from tests.run.test_runs import metrics, weights
from trialstack.core.errors import Interrupted
from trialstack.run.result import Result
from trialstack.run.train import train
from trialstack.run.trial import Trial, compose_trial, resume_trial

COMMON = (
    "model.hidden=[16]", "test=false", "logger=none", "trainer.precision=64-true",
    "trainer.max_epochs=7", "trainer.limit_train_batches=20", "optimizer.momentum=0.9",
    "objective=val/loss", "callbacks=early_stopping", "~callbacks.progress",
    "callbacks.early_stopping.patience=2", "engine.steps_per_execution=7",
)  # fmt: skip
RATES = ["0.0", "0.01 optimizer.weight_decay=1e30", "1.0", "0.5", "0.05"]
"""A trial that never improves, one that diverges, two that stop somewhere, and one that trains to
its end.
"""


def trials(folder: Path, rates: Sequence[str] = RATES, *overrides: str) -> list[Trial]:
    return [
        compose_trial(
            [*COMMON, *f"optimizer.lr={rate}".split(), *overrides],
            folder / str(number),
            ROOT / "conf",
        )
        for number, rate in enumerate(rates)
    ]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each trial, trained by itself."""
    folder = tmp_path_factory.mktemp("alone")
    results = [train([trial])[0] for trial in trials(folder)]
    assert [result.status for result in results] == ["completed", "diverged", *["completed"] * 3]
    epochs = [result.epochs for result in results]
    assert (epochs[0], epochs[4]) == (3, 7)
    assert 3 <= epochs[2] < 7
    assert 3 <= epochs[3] < 7
    return folder


def assert_as_alone(folder: Path, alone: Path) -> None:
    for number in range(len(RATES)):
        mine, its = folder / str(number), alone / str(number)
        found, expected = Result.read(mine), Result.read(its)
        assert found is not None
        assert expected is not None
        for name in ("status", "reason", "epochs", "best_epoch"):
            assert getattr(found, name) == getattr(expected, name), (number, name)
        for row, other in zip(
            *(metrics(run) if expected.epochs else [] for run in (mine, its)), strict=True
        ):
            values = [
                [float(each[name]) for name in each if name != "seconds"] for each in (row, other)
            ]
            assert values[0] == pytest.approx(values[1], rel=1e-9)
        files = {path.name for path in (its / "checkpoints").glob("*")}
        assert {path.name for path in (mine / "checkpoints").glob("*")} == files
        for name in (file.removesuffix(".ckpt") for file in files):
            assert_close(weights(mine, name), weights(its, name))


def test_trials_end_where_they_would_alone_with_the_same_results(
    alone: Path, tmp_path: Path
) -> None:
    results = train(trials(tmp_path))
    assert [(result.engine, result.stack_size) for result in results] == [("stacked", 5)] * 5
    assert_as_alone(tmp_path, alone)


def test_the_training_ends_with_the_last_trial_that_has_not_ended(
    alone: Path, tmp_path: Path
) -> None:
    results = train(trials(tmp_path, RATES[:2], "trainer.max_epochs=100"))
    assert [(result.status, result.epochs) for result in results] == [
        ("completed", 3),
        ("diverged", 0),
    ]
    assert results[0].reason == "stopped after epoch 3 of 100: val/loss no longer improved"


@pytest.mark.parametrize("epochs", [2, 4, 6])
def test_an_interrupted_stack_goes_on_with_the_trials_that_have_not_ended(
    epochs: int, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trialstack.run.stack_checkpoint.PAUSE", 0)
    folders = [trial.folder for trial in trials(tmp_path)]
    with monkeypatch.context() as patch:
        interrupt_after(epochs, patch)
        patch.setattr(
            "trialstack.run.stack_checkpoint.StackCheckpoint.finish", lambda *_: None
        )  # as SIGKILL leaves it
        with pytest.raises(Interrupted):
            train([resume_trial(folder) for folder in folders])
    results = train([resume_trial(folder) for folder in folders])
    assert {result.stack_size for result in results} == {5}
    assert_as_alone(tmp_path, alone)


def test_trials_of_a_stack_that_was_stopped_go_on_alone(
    alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trialstack.run.stack_checkpoint.PAUSE", 0)
    folders = [trial.folder for trial in trials(tmp_path)]
    with monkeypatch.context() as patch:
        interrupt_after(4, patch)
        with pytest.raises(Interrupted):
            train([resume_trial(folder) for folder in folders])
    for number in (4, 0, 3, 2):
        train([resume_trial(folders[number])])
    train([resume_trial(folders[1])])
    assert_as_alone(tmp_path, alone)


def test_a_trial_that_has_ended_can_be_trained_longer(alone: Path, tmp_path: Path) -> None:
    train(trials(tmp_path, ["0.0", "0.05"], "trainer.max_epochs=5"))
    [result] = train([longer(resume_trial(tmp_path / "0"), epochs=6)])
    assert (result.status, result.epochs, result.stack_size) == ("completed", 4, 1)
    assert [row["step"] for row in metrics(tmp_path / "0")] == ["20", "40", "60", "80"]


def test_each_trial_waits_for_validation_where_not_every_epoch_has_it(tmp_path: Path) -> None:
    every = "trainer.check_val_every_n_epoch=2"
    lone = [train([trial])[0] for trial in trials(tmp_path / "alone", ["0.0", "0.05"], every)]
    together = train(trials(tmp_path / "stack", ["0.0", "0.05"], every))
    assert [result.epochs for result in together] == [result.epochs for result in lone] == [6, 7]
    assert [result.reason for result in together] == [result.reason for result in lone]


def test_a_minimum_of_epochs_is_kept_by_each_trial(tmp_path: Path) -> None:
    least = "+trainer.min_epochs=5"
    lone = [train([trial])[0] for trial in trials(tmp_path / "alone", ["0.0", "0.05"], least)]
    together = train(trials(tmp_path / "stack", ["0.0", "0.05"], least))
    assert [result.epochs for result in together] == [result.epochs for result in lone] == [5, 7]
    assert [result.reason for result in together] == [result.reason for result in lone]


def test_the_neighbours_of_a_trial_that_ends_do_not_notice(tmp_path: Path) -> None:
    for name, rate in (("ends", "0.0"), ("trains", "0.02")):
        train(trials(tmp_path / name, [rate, "0.05"], "trainer.precision=32-true"))
    assert same(weights(tmp_path / "ends/1", "last"), weights(tmp_path / "trains/1", "last"))


SWEEP = (
    "-m", "sweep=s", "optimizer.lr=0.0,0.1", "logger=none", "model.hidden=[4]",
    "trainer.limit_train_batches=2", "trainer.max_epochs=4", "callbacks=early_stopping",
    "~callbacks.progress", "callbacks.early_stopping.patience=1",
)  # fmt: skip


LIGHTNING = "_target_: lightning.pytorch.callbacks"
KNOWN = (
    "LearningRateMonitor",
    "Timer, duration: '00:10:00:00'",
    "ModelCheckpoint, monitor: val/loss, save_top_k: 1",
    "TQDMProgressBar",
)


@pytest.mark.parametrize("callback", KNOWN)
def test_what_a_stack_knows_of_trains_in_stacks(
    callback: str, command: Callable[..., Ended]
) -> None:
    ended = command(
        "train.py", *SWEEP[:7], "callbacks=none", f"+callbacks.x={{{LIGHTNING}.{callback}}}"
    )
    assert ended.code == 0, ended.err
    for number in range(2):
        result = Result.read(Path(f"outputs/sweeps/s/{number}"))
        assert result is not None
        assert (result.engine, result.stack_size, result.epochs) == ("stacked", 2, 4)
        assert {path.name for path in Path(f"outputs/sweeps/s/{number}").rglob("*.ckpt")} == {
            "best.ckpt",
            "last.ckpt",
        }


@pytest.mark.parametrize("interval", ["step", "epoch"])
def test_a_timer_ends_a_stack_after_whole_epochs(
    interval: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        Timer, "time_elapsed", lambda self, *stage: 0.0 if self.start_time() is None else 1e9
    )
    timer = f"+callbacks.timer={{{LIGHTNING}.Timer, duration: '01:00:00:00', interval: {interval}}}"
    results = train(trials(tmp_path, ["0.01", "0.05"], timer))
    assert [(result.status, result.stack_size) for result in results] == [("completed", 2)] * 2
    assert [result.epochs for result in results] == [1, 1]
    assert [row["step"] for row in metrics(tmp_path / "0")] == ["20"]
    last = torch.load(tmp_path / "0/checkpoints/last.ckpt", weights_only=True)
    assert {"History", "BestAndLast", "Timer"} <= set(last["callbacks"])
