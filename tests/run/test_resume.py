"""Runs that are killed, interrupted, resumed, or met by a second process."""

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from tests.conftest import Ended
from tests.forked import Forked
from tests.run.test_runs import weights

Command = Callable[..., Ended]
Fork = Callable[..., Forked]

# Dropout, momentum and a schedule, on the eager engine also augmentation: all that has a state or
# draws random numbers.
TRIAL = (
    "logger=none", "model.hidden=[16]", "model.dropout=0.3", "optimizer.momentum=0.9",
    "schedule=cosine", "trainer.max_epochs=30", "engine.steps_per_execution=4",
)  # fmt: skip
EAGER = (
    *TRIAL[:5], "trainer.max_epochs=6",
    "data.augment=[{_target_: torchvision.transforms.v2.RandomCrop, size: 28, padding: 2}]",
)  # fmt: skip


@pytest.fixture
def run(trained_run: Callable[..., Path]) -> Path:
    """Two epochs of a small network, in `run`."""
    return trained_run("model.hidden=[8]", "trainer.max_epochs=2", "logger=none")


def wait_for_epoch(folder: Path, epoch: int, running: Forked) -> None:
    for _ in range(6000):
        file = folder / "metrics.csv"
        if file.exists() and len(file.read_text().splitlines()) > epoch:
            return
        assert running.poll() is None, running.communicate()[1]
        time.sleep(0.05)
    raise AssertionError("the run did not get there")


@pytest.mark.parametrize(
    ("trial", "stop"),
    [
        (TRIAL, signal.SIGKILL),
        (TRIAL, signal.SIGINT),
        (TRIAL, signal.SIGTERM),
        (EAGER, signal.SIGKILL),
    ],
)
def test_a_stopped_run_resumes_to_bit_equal_weights(
    trial: tuple[str, ...],
    stop: signal.Signals,
    trained_run: Callable[..., Path],
    command: Command,
    fork: Fork,
    tmp_path: Path,
) -> None:
    whole = trained_run(*trial)
    running = fork("train.py", *trial, "hydra.run.dir=stopped")
    wait_for_epoch(tmp_path / "stopped", 2, running)
    running.send_signal(stop)
    _, err = running.communicate()
    if stop != signal.SIGKILL:
        assert running.returncode == 130
        assert "python train.py resume=stopped" in err.splitlines()[-1]
        assert json.loads((tmp_path / "stopped/result.json").read_text())["status"] == "interrupted"

    ended = command("train.py", "resume=stopped")
    assert ended.code == 0, ended.err
    assert "resuming from" in ended.out
    for name in ("best", "last"):
        expected, stopped = weights(whole, name), weights(Path("stopped"), name)
        assert all(torch.equal(expected[key], stopped[key]) for key in expected)
    rows = [Path(folder, "metrics.csv").read_text().splitlines() for folder in (whole, "stopped")]
    without_seconds = [[row.rpartition(",")[0] for row in part] for part in rows]
    assert without_seconds[0] == without_seconds[1]
    assert json.loads(Path("stopped/result.json").read_text())["status"] == "completed"


def test_resume_keeps_the_runs_own_config_and_may_change_the_trainer(
    run: Path, command: Command
) -> None:
    before = (run / ".hydra/config.yaml").read_text()
    ended = command("train.py", "resume=run", "trainer.max_epochs=4")
    assert ended.code == 0, ended.err
    result = json.loads((run / "result.json").read_text())
    assert result["epochs"] == 4
    assert result["overrides"] == [
        "model.hidden=[8]", "trainer.max_epochs=2", "logger=none", "trainer.max_epochs=4",
    ]  # fmt: skip
    assert "[B, 8]" in ended.out
    after = (run / ".hydra/config.yaml").read_text()
    assert after == before.replace("max_epochs: 2", "max_epochs: 4")


def test_a_run_that_was_made_longer_and_killed_still_resumes(
    command: Command, fork: Fork, tmp_path: Path
) -> None:
    assert command("train.py", *TRIAL[:4], "trainer.max_epochs=2", "hydra.run.dir=a").code == 0
    running = fork("train.py", "resume=a", "trainer.max_epochs=200")
    wait_for_epoch(tmp_path / "a", 4, running)
    running.kill()
    running.communicate()
    assert command("train.py", "resume=a", "trainer.max_epochs=201").code == 0
    assert json.loads(Path("a/result.json").read_text())["epochs"] == 201


def test_fewer_epochs_than_there_are_is_refused_and_loses_nothing(
    run: Path, command: Command
) -> None:
    before = (run / "result.json").read_text()
    ended = command("train.py", "resume=run", "trainer.max_epochs=1")
    assert (ended.code, len(ended.err.splitlines())) == (2, 1)
    assert "trainer.max_epochs >= 2 must hold" in ended.err
    assert (run / "result.json").read_text() == before


def test_a_run_that_stopped_early_says_so_and_stays_stopped(command: Command) -> None:
    stop = ("callbacks=early_stopping", "callbacks.early_stopping.patience=1", "optimizer.lr=0.0")
    ended = command("train.py", "model.hidden=[8]", *stop, "hydra.run.dir=a")
    assert "stopped after epoch 2 of 30: val/acc no longer improved" in ended.out
    assert "a is complete" in command("train.py", "resume=a").out
    assert json.loads(Path("a/result.json").read_text())["epochs"] == 2


def test_max_time_stops_at_the_end_of_an_epoch(command: Command) -> None:
    ended = command(
        "train.py",
        *TRIAL[:4],
        "trainer.max_epochs=2000",
        "trainer.max_time=00:00:00:01",
        "hydra.run.dir=a",
    )
    assert ended.code == 0, ended.err
    epochs = json.loads(Path("a/result.json").read_text())["epochs"]
    assert f"stopped after epoch {epochs} of 2000: trainer.max_time was over" in ended.out
    assert (
        command("train.py", *TRIAL[:4], f"trainer.max_epochs={epochs}", "hydra.run.dir=whole").code
        == 0
    )
    whole, stopped = weights(Path("whole"), "last"), weights(Path("a"), "last")
    assert all(torch.equal(whole[key], stopped[key]) for key in whole)


def test_an_early_end_says_what_ended_it(command: Command) -> None:
    ended = command(
        "train.py", "model.hidden=[8]", "+trainer.max_steps=50", "engine=eager", "hydra.run.dir=a"
    )
    assert ended.code == 0, ended.err
    assert "stopped after epoch 2 of 30: trainer.max_steps=50 was reached" in ended.out
    threshold = ("callbacks=early_stopping", "+callbacks.early_stopping.stopping_threshold=0.1")
    ended = command("train.py", "model.hidden=[8]", *threshold, "hydra.run.dir=b")
    assert (
        "stopped after epoch 1 of 30: EarlyStopping: Stopping threshold reached: val/acc = 0."
        in ended.out
    )


def test_a_run_goes_on_in_its_own_folder_only(run: Path, command: Command) -> None:
    ended = command("train.py", "resume=run", "hydra.run.dir=b")
    assert (ended.code, Path("b").exists()) == (2, False)
    assert "resume=run goes on in that folder, got hydra.run.dir=b" in ended.err


def test_a_complete_run_resumes_to_itself(run: Path, command: Command) -> None:
    before = (run / "result.json").read_text()
    ended = command("train.py", "resume=run")
    assert ended.code == 0
    assert "run is complete; trainer.max_epochs=N makes it longer" in ended.out
    assert (run / "result.json").read_text() == before


def test_a_run_killed_in_its_last_test_is_tested_when_resumed(run: Path, command: Command) -> None:
    before = json.loads((run / "result.json").read_text())
    (run / "result.json").unlink()
    assert command("train.py", "resume=run").code == 0
    after = json.loads((run / "result.json").read_text())
    same = ("status", "metrics", "objective", "best_epoch", "epochs", "overrides")
    assert [after[key] for key in same] == [before[key] for key in same]


def test_a_run_interrupted_before_it_went_on_keeps_what_it_had(
    run: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = json.loads((run / "result.json").read_text())

    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("trialstack.data.cache.Datasets.load", interrupt)
    ended = command("train.py", "resume=run", "trainer.max_epochs=3")
    assert ended.code == 130
    assert "python train.py resume=run" in ended.err
    after = json.loads((run / "result.json").read_text())
    assert after["status"] == "interrupted"
    assert [after[key] for key in ("objective", "best_epoch", "epochs")] == [
        before[key] for key in ("objective", "best_epoch", "epochs")
    ]


def test_a_moved_run_keeps_its_best_epoch(command: Command) -> None:
    worse = (
        "+optimizer.maximize=true",
        "optimizer.lr=1e-3",
        "objective=val/loss",
        "logger=none",
    )  # with every epoch
    assert (
        command(
            "train.py", "model.hidden=[8]", "trainer.max_epochs=2", *worse, "hydra.run.dir=a"
        ).code
        == 0
    )
    before, best = json.loads(Path("a/result.json").read_text()), weights(Path("a"))
    Path("a").rename("moved")
    assert (
        command(
            "train.py", "resume=moved", "trainer.max_epochs=3", "+trainer.limit_test_batches=1"
        ).code
        == 0
    )
    after, kept = json.loads(Path("moved/result.json").read_text()), weights(Path("moved"))
    assert [result["epochs"] for result in (before, after)] == [2, 3]
    assert [result["best_epoch"] for result in (before, after)] == [1, 1]
    assert after["objective"] == before["objective"]
    assert all(torch.equal(kept[key], best[key]) for key in best)


def test_a_run_that_died_before_its_first_epoch_starts_over(run: Path, command: Command) -> None:
    (run / "checkpoints/last.ckpt").unlink()
    (run / "result.json").unlink()
    ended = command("train.py", "resume=run")
    assert ended.code == 0, ended.err
    assert "there is no checkpoint yet" in ended.out


def test_a_folder_is_never_shared_by_two_runs(run: Path, command: Command) -> None:
    before = (run / ".hydra/config.yaml").read_text()
    ended = command("train.py", "seed=2", "hydra.run.dir=run")
    assert (ended.code, len(ended.err.splitlines())) == (2, 1)
    assert "already holds a run; resume=run continues it" in ended.err
    assert (run / ".hydra/config.yaml").read_text() == before


def test_a_second_process_does_not_train_in_a_folder_in_use(run: Path, command: Command) -> None:
    with FileLock(run / ".lock"):
        ended = command("train.py", "resume=run")
    assert (ended.code, len(ended.err.splitlines())) == (2, 1)
    assert "another process is training in run" in ended.err
