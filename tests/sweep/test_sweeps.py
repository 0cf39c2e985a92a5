"""Sweeps: what trains together, what a second command keeps, what is left when trials fail, and
what is shown.
"""

import contextlib
import csv
import errno
import json
import os
import re
import signal
import termios
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.experimental.callback import Callback
from omegaconf import OmegaConf
from rich.console import Console

import trialstack.engine.eager
from tests.conftest import ROOT, Ended
from tests.forked import Forked
from tests.run.test_runs import weights
from trialstack.core.errors import UserError
from trialstack.engine.models import MLP
from trialstack.sweep.figure import sweep_figure
from trialstack.sweep.leaderboard import Leaderboard
from trialstack.sweep.report import fitting

Command = Callable[..., Ended]
Fork = Callable[..., Forked]
Trained = Callable[..., Path]

QUICK = ("model.hidden=[8]", "trainer.max_epochs=2", "callbacks=none", "logger=none")
SWEEP = ("-m", *QUICK, "sweep=s")
FOLDER = Path("outputs/sweeps/s")


def result(name: object, folder: Path = FOLDER) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / str(name) / "result.json").read_text())
    return content


def leaderboard(folder: Path = FOLDER) -> list[dict[str, str]]:
    with (folder / "leaderboard.csv").open(newline="") as file:
        return [row | {"seconds": ""} for row in csv.DictReader(file)]


class Failing(MLP):
    """A model whose training fails."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled():
            raise RuntimeError("the model has\na defect")
        return super().forward(images)


class Recording(Callback):
    """Writes down what Hydra calls."""

    def on_job_start(self, config: Any, **kwargs: Any) -> None:
        with Path("calls.txt").open("a") as file:
            file.write(
                f"start {config.hydra.job.num} {Path(config.hydra.runtime.output_dir).name}\n"
            )

    def on_job_end(self, config: Any, job_return: Any, **kwargs: Any) -> None:
        with Path("calls.txt").open("a") as file:
            file.write(
                f"end {config.hydra.job.num} {job_return.status.name} "
                f"{job_return.return_value:.2f}\n"
            )


def test_trials_that_differ_in_numbers_train_together(command: Command) -> None:
    ended = command(
        "train.py",
        *SWEEP,
        "optimizer.lr=0.1,0.01",
        "seed=1,2",
        "data.batch_size=32,64",
        "test=false",
    )
    assert ended.code == 0, ended.err
    assert "sweep of 8 trials in outputs/sweeps/s: 8 new" in ended.out
    assert [
        line.partition(",")[0] for line in ended.out.splitlines() if line.startswith("stack")
    ] == [
        "stack 1 of 2: 4 trials",
        "stack 2 of 2: 4 trials",
    ]
    assert {(result(name)["status"], result(name)["stack_size"]) for name in range(8)} == {
        ("completed", 4)
    }
    assert "epoch 1/2" not in ended.out
    assert "epoch 1/2" in (FOLDER / "5/train.log").read_text()


def test_every_trial_leaves_what_a_run_leaves_and_learns_what_it_learns_alone(
    command: Command,
) -> None:
    logger = (
        '{_target_:lightning.pytorch.loggers.CSVLogger,save_dir:"${folder}",name:csv,version:""}'
    )
    settings = (
        "model.hidden=[8]",
        "trainer.max_epochs=2",
        "trainer.precision=64-true",
        "model.dropout=0.2",
    )
    common = (*settings, f"+logger.csv={logger}")
    assert command("train.py", "-m", *common, "sweep=s", "seed=1,2,3").code == 0
    assert command("train.py", *common, "seed=2", "hydra.run.dir=alone").code == 0
    names = {path.name for path in (FOLDER / "1").iterdir() if "tfevents" not in path.name}
    alone = {path.name for path in Path("alone").iterdir() if "tfevents" not in path.name}
    assert names == alone - {"history.png", "hparams.yaml"}
    assert (
        len(
            {
                (folder / "csv/metrics.csv").read_text().count("\n")
                for folder in (FOLDER / "1", Path("alone"))
            }
        )
        == 1
    )
    for name in ("best", "last"):
        a, b = weights(FOLDER / "1", name), weights(Path("alone"), name)
        assert all(torch.allclose(a[key], b[key], rtol=1e-9, atol=0) for key in b)
    mine, theirs = result(1), result("alone", Path())
    assert mine["metrics"] == pytest.approx(theirs["metrics"], rel=1e-9)
    assert (mine["overrides"], mine["stack_size"]) == ([*common, "sweep=s", "seed=2"], 3)
    assert "one of 3 trials in a stack" in (FOLDER / "1/train.log").read_text()


def test_jobs_look_as_with_hydras_basic_launcher(command: Command) -> None:
    common = (
        *QUICK,
        "optimizer.weight_decay='${either:${hydra:job.num},${text}}'",
        "+hydra.callbacks.x._target_=tests.sweep.test_sweeps.Recording",
    )
    odd = ("seed=1,2", "+text='a b, c',x", "+hydra.job.env_set.TRIAL=some")
    seen = {}
    for launcher, sweeper in (("basic", "basic"), ("stacked", "grid")):
        choice = (f"hydra/launcher={launcher}", f"hydra/sweeper={sweeper}")
        ended = command("train.py", "-m", *common, *odd, *choice, f"sweep={launcher}")
        assert ended.code == 0, ended.err
        files = {}
        for path in sorted(Path(f"outputs/sweeps/{launcher}").glob("*/.hydra/*.yaml")):
            text = (
                path.read_text()
                .replace(launcher, "LAUNCHER")
                .replace(f"sweeper: {sweeper}", "sweeper: S")
            )
            files[str(path.relative_to(f"outputs/sweeps/{launcher}"))] = re.sub(
                r"_target_: hydra\S+", "", text
            )
        calls = Path("calls.txt").read_text().splitlines()
        Path("calls.txt").unlink()
        seen[launcher] = files, [line for line in calls if line.startswith("start")], sorted(calls)
    assert len(seen["basic"][0]) == 12
    for name, text in seen["basic"][0].items():
        assert drop_sweeper(seen["stacked"][0][name]) == drop_sweeper(text), name
    assert seen["stacked"][1:] == seen["basic"][1:]


def drop_sweeper(text: str) -> Any:
    """A `.hydra/` file without what the choice of the sweeper and of the launcher changes."""
    values: Any = OmegaConf.to_container(OmegaConf.create(text))
    if isinstance(values, dict) and "hydra" in values:
        for key in ("launcher", "sweeper"):
            values["hydra"].pop(key)
            values["hydra"]["runtime"]["choices"].pop(f"hydra/{key}")
    if isinstance(values, dict) and "hydra" in values:
        values["hydra"]["overrides"].pop("hydra")
    return values


def test_lists_with_the_same_tag_vary_together(command: Command) -> None:
    paired = (
        "optimizer.lr=tag(x,choice(0.1,0.01,0.001))",
        "seed=tag(x,range(5,8))",
        "test=true,false",
    )
    ended = command("train.py", *SWEEP, *paired, "dry_run=false")
    assert ended.code == 0, ended.err
    trials = [OmegaConf.load(FOLDER / str(name) / ".hydra/config.yaml") for name in range(6)]
    assert [(trial.optimizer.lr, trial.seed, trial.test) for trial in trials] == [
        (0.1, 5, True), (0.1, 5, False), (0.01, 6, True), (0.01, 6, False), (0.001, 7, True),
        (0.001, 7, False),
    ]  # fmt: skip


def test_a_list_without_values_is_refused(command: Command) -> None:
    ended = command("train.py", *SWEEP, "seed=range(3,3)")
    assert (ended.code, len(ended.err.splitlines())) == (2, 1)
    assert "seed=range(3,3) must have values to sweep over" in ended.err


def test_lists_with_the_same_tag_must_be_as_long(command: Command) -> None:
    ended = command(
        "train.py", *SWEEP, "optimizer.lr=tag(x,choice(0.1,0.01))", "seed=tag(x,range(1,4))"
    )
    assert (ended.code, len(ended.err.splitlines())) == (2, 1)
    assert "must have the same length, got 2 of optimizer.lr; 3 of seed" in ended.err
    assert not FOLDER.exists()


def test_a_larger_sweep_keeps_what_is_complete(command: Command, trained_sweep: Trained) -> None:
    trained_sweep(*SWEEP, "optimizer.lr=0.1,0.01")
    before = [(FOLDER / name / "result.json").stat().st_mtime_ns for name in "01"]
    ended = command("train.py", *SWEEP, "optimizer.lr=0.3,0.1,0.03,0.01")
    assert ended.code == 0, ended.err
    assert "sweep of 4 trials in outputs/sweeps/s: 2 new, 2 kept (completed)" in ended.out
    assert [(FOLDER / name / "result.json").stat().st_mtime_ns for name in "01"] == before
    rates = [OmegaConf.load(FOLDER / name / ".hydra/config.yaml").optimizer.lr for name in "0123"]
    assert rates == [0.1, 0.01, 0.3, 0.03]
    assert sorted(row["optimizer.lr"] for row in leaderboard()) == ["0.01", "0.03", "0.1", "0.3"]
    ended = command("train.py", *SWEEP, "optimizer.lr=0.3,0.1,0.03,0.01")
    assert "4 kept (completed)" in ended.out


def test_what_says_where_a_trial_is_run_does_not_make_it_another(
    command: Command, trained_sweep: Trained
) -> None:
    trained_sweep(*SWEEP, "seed=1,2")
    elsewhere = ("logger=tensorboard", "callbacks=default", "engine.max_stack=1", "on_error=stop")
    ended = command("train.py", *SWEEP[:3], "sweep=s", "seed=1,2", *elsewhere)
    assert "2 kept (completed)" in ended.out
    assert "2 new" in command("train.py", *SWEEP, "seed=1,2", "test=false").out


def test_equal_trials_are_one(command: Command) -> None:
    ended = command("train.py", *SWEEP, "optimizer.lr=0.1,0.10,0.01", "seed=1,1")
    assert "sweep of 6 trials in outputs/sweeps/s: 2 new, 4 the same as another" in ended.out
    assert [row["n"] for row in leaderboard()] == ["1", "1"]
    ended = command("train.py", *SWEEP, "optimizer.lr=1e-1,0.1")
    assert "1 kept (completed), 1 the same as another" in ended.out


@pytest.mark.parametrize("launcher", ["basic", "stacked"])
def test_no_launcher_writes_over_the_trials_of_a_sweep(launcher: str, command: Command) -> None:
    choice = f"hydra/launcher={launcher}"
    assert command("train.py", *SWEEP, "seed=1,2", choice).code == 0
    ended = command("train.py", *SWEEP, "optimizer.lr=0.1,0.2", "hydra/launcher=basic")
    assert (ended.code, len(ended.err.splitlines())) == (2, 1)
    assert "outputs/sweeps/s already holds a sweep; without hydra/launcher=basic" in ended.err
    assert result(0)["overrides"][-1] == "seed=1"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("-m", "sweep=a,b"), "sweep must be the same in all trials, got a, b; "),
        (
            ("-m", "objective=val/loss,val/acc"),
            "objective must be the same in all trials, got val/loss, val/acc; ",
        ),
        (("sweep=a",), "sweep=a is for sweeps, got a single run; add -m"),
        (
            ("-m", "seed=1,2", "dry_run=true", "hydra/launcher=basic"),
            "dry_run=true plans for hydra/launcher=stacked",
        ),
        (
            ("-m", "resume=outputs/a,outputs/b"),
            "resume=FOLDER continues one run, got resume=outputs/a,outputs/b; ",
        ),
        (
            ("resume=outputs/sweeps/x",),
            "outputs/sweeps/x is a sweep; name one of its trials, such as outputs/sweeps/x",
        ),
    ],
)
def test_what_makes_no_sense_in_a_sweep_is_refused(
    overrides: tuple[str, ...], message: str, command: Command
) -> None:
    Path("outputs/sweeps/x").mkdir(parents=True)
    Path("outputs/sweeps/x/sweep.json").touch()
    ended = command("train.py", *overrides)
    assert ended.code in (1, 2)
    assert message in ended.err.splitlines()[-1]
    assert not list(Path("outputs").glob("*/*/*/"))


def test_diverged_trials_are_no_failure_and_are_trained_again_on_demand(command: Command) -> None:
    rates = "optimizer.lr=0.1,1e30"
    ended = command("train.py", *SWEEP, rates)
    assert ended.code == 0, ended.err
    assert "diverged: outputs/sweeps/s/1: the loss became NaN or infinite in epoch 1" in ended.out
    assert [row["status"] for row in leaderboard()] == ["completed", "diverged"]
    low, high = sweep_figure(Leaderboard(FOLDER)).axes[0].get_xlim()
    assert high - low < 1  # 1e30 is at the edge
    assert "1 kept (completed), 1 kept (diverged)" in command("train.py", *SWEEP, rates).out
    assert (
        "1 kept (completed), 1 trained anew (diverged)"
        in command("train.py", *SWEEP, rates, "retry=diverged").out
    )


FAILING = "model._target_=trialstack.models.MLP,tests.sweep.test_sweeps.Failing"


def test_a_trial_that_fails_costs_the_others_nothing(command: Command) -> None:
    ended = command("train.py", *SWEEP, FAILING, "seed=1,2")
    assert ended.code == 1
    assert "failed: outputs/sweeps/s/2, 3: RuntimeError: the model has a defect" in ended.out
    assert [result(name)["status"] for name in range(4)] == [
        "completed",
        "completed",
        "failed",
        "failed",
    ]
    assert "Traceback" in (FOLDER / "2/train.log").read_text()
    assert "Traceback" not in ended.err
    assert (ended.out.count("the model has a defect"), ended.err) == (1, "2 of 4 trials failed\n")
    assert (
        "2 kept (completed), 2 trained anew (failed)"
        in command("train.py", *SWEEP, FAILING, "seed=1,2").out
    )


def test_a_sweep_can_stop_at_the_first_failure(command: Command) -> None:
    ended = command(
        "train.py",
        *SWEEP,
        "model._target_=tests.sweep.test_sweeps.Failing",
        "seed=1,2",
        "on_error=stop",
    )
    assert ended.code == 1
    assert "stopped at a trial that failed; `python" in ended.err
    assert not (FOLDER / "1").exists()
    assert [row["status"] for row in leaderboard()] == ["1 failed, 1 waiting"]


def test_a_trial_that_cannot_be_made_does_not_fail_its_stack(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hyperparameters(config: Any, data: Any) -> dict[str, Any]:
        if config.seed > 2:
            raise UserError("no such luck")
        return trialstack.engine.eager.hyperparameters(config, data)

    monkeypatch.setattr("trialstack.run.fit.hyperparameters", hyperparameters)
    ended = command("train.py", *SWEEP, "seed=1,2,3,4")
    assert ended.code == 1
    assert [(result(name)["status"], result(name)["stack_size"]) for name in range(2)] == [
        ("completed", 2)
    ] * 2
    assert [result(name)["status"] for name in (2, 3)] == ["failed"] * 2
    assert "failed: outputs/sweeps/s/2, 3: no such luck" in ended.out


def test_a_mistake_in_one_trial_is_said_before_anything_trains(command: Command) -> None:
    ended = command("train.py", *SWEEP, "data.batch_size=32,0")
    assert (ended.code, len(ended.err.splitlines())) == (2, 1)
    assert "data.batch_size must be a whole number of at least 1, got 0" in ended.err
    assert not FOLDER.exists()


def test_a_dry_run_says_what_would_train_and_writes_nothing(command: Command) -> None:
    ended = command("train.py", *SWEEP, "engine=auto,eager", "seed=1,2,3", "dry_run=true")
    assert ended.code == 0, ended.err
    rows = [line.split() for line in ended.out.splitlines() if line.lstrip().startswith("engine=")]
    assert rows[0][:3] == ["engine=auto", "stacked", "3"]
    assert all(float(number) >= 0 for number in rows[0][3:5])  # seconds, GiB
    assert rows[1][:7] == ["engine=eager", "eager:", "engine=eager", "3,", "one", "at", "a"]
    assert "6 trials, about" in ended.out
    assert not Path("outputs").exists()
    assert "1 trial in" in command("train.py", *QUICK, "dry_run=true").out
    assert not Path("outputs").exists()


def test_a_stack_that_is_too_large_is_divided(command: Command) -> None:
    assert command("train.py", *SWEEP, "seed=1,2,3,4,5", "engine.max_stack=2").code == 0
    assert [result(name)["stack_size"] for name in range(5)] == [2, 2, 2, 2, 1]


def test_a_stack_that_runs_out_of_memory_is_halved(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    import trialstack.engine.stacked

    original = trialstack.engine.stacked.StackedClassifier.setup

    def setup(module: Any, stage: str) -> None:
        if len(module.seeds) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        original(module, stage)

    monkeypatch.setattr(trialstack.engine.stacked.StackedClassifier, "setup", setup)
    ended = command("train.py", *SWEEP, "seed=1,2,3,4,5,6,7")
    assert ended.code == 0, ended.err
    assert "7 trials did not fit into the memory as one stack" in ended.out
    assert [result(name)["stack_size"] for name in range(7)] == [1, 2, 2, 2, 2, 2, 2]
    assert {result(name)["status"] for name in range(7)} == {"completed"}


@pytest.mark.parametrize("sweeper", ["basic", "grid"])
def test_sweepers_get_objectives_batch_by_batch(sweeper: str, command: Command) -> None:
    batches = (f"hydra/sweeper={sweeper}", "hydra.sweeper.max_batch_size=2", "objective=val/loss")
    ended = command("train.py", *SWEEP, *batches, "optimizer.lr=0.1,0.01,0.001")
    assert ended.code == 0, ended.err
    assert [result(name)["stack_size"] for name in range(3)] == [2, 2, 1]
    scores = [float(row["val/loss"]) for row in leaderboard()]
    assert scores == sorted(scores)
    assert scores == pytest.approx(sorted(result(name)["objective"] for name in range(3)))


TRIALS = (
    "model.hidden=[8],[16]",
    "optimizer.lr=0.3,0.1,1e30",
    "seed=1,2",
    "optimizer.momentum=0.9",
)
LONG = ("-m", *QUICK[2:], *TRIALS, "trainer.max_epochs=40", "test=false")


def wait_for(happened: Callable[[], bool], running: Forked) -> None:
    for _ in range(15000):
        if happened():
            return
        assert running.poll() is None, running.communicate()
        time.sleep(0.02)
    raise AssertionError("it did not get there")


def has_rows(file: Path) -> bool:
    return file.exists() and len(file.read_text().splitlines()) > 3


def test_a_stopped_sweep_goes_on_to_the_same_leaderboard(
    command: Command, fork: Fork, tmp_path: Path
) -> None:
    assert command("train.py", *LONG, "sweep=whole").code == 0
    for name, stop in (("0", signal.SIGKILL), ("6", signal.SIGINT)):
        running = fork("train.py", *LONG, "sweep=s")
        wait_for(partial(has_rows, tmp_path / FOLDER / name / "metrics.csv"), running)
        running.send_signal(stop)
        _, err = running.communicate()
        if stop == signal.SIGINT:
            assert running.returncode == 130, err
            assert err.splitlines()[-1].startswith("interrupted; `python ")
            assert "sweep=s` continues" in err.splitlines()[-1]
            assert len(leaderboard(tmp_path / FOLDER)) == 6
    ended = command("train.py", *LONG, "sweep=s")
    assert ended.code == 0, ended.err
    assert (
        "4 kept (completed), 2 kept (diverged), 6 going on from their last checkpoint" in ended.out
    )
    assert leaderboard() == leaderboard(Path("outputs/sweeps/whole"))
    for trial in (0, 3, 6, 9):
        whole, stopped = (
            weights(Path("outputs/sweeps/whole") / str(trial)),
            weights(FOLDER / str(trial)),
        )
        assert all(torch.equal(whole[key], stopped[key]) for key in whole)
    assert not list(FOLDER.glob("*/checkpoints/stack.ckpt"))


def test_a_second_process_does_not_train_the_same_sweep(
    command: Command, fork: Fork, tmp_path: Path
) -> None:
    running = fork("train.py", *LONG, "trainer.max_epochs=2000", "sweep=s")
    wait_for(partial(has_rows, tmp_path / FOLDER / "0/metrics.csv"), running)
    ended = command("train.py", *LONG, "trainer.max_epochs=2000", "sweep=s")
    assert (ended.code, len(ended.err.splitlines())) == (2, 1)
    assert "another process is training in outputs/sweeps/s" in ended.err
    ended = command("report.py", "sweep=s")
    assert ended.code == 0, ended.err
    assert {row["status"] for row in leaderboard()} <= {
        "unfinished",
        "waiting",
        "1 unfinished, 1 waiting",
    }
    assert max(float(row["val/acc"] or 0) for row in leaderboard()) > 0.3
    running.kill()
    running.communicate()


def test_a_trial_of_a_stopped_sweep_resumes_alone(
    command: Command, fork: Fork, tmp_path: Path
) -> None:
    running = fork("train.py", *LONG, "sweep=s")
    wait_for((tmp_path / FOLDER / "1/checkpoints/stack.ckpt").exists, running)
    running.kill()
    running.communicate()
    assert (
        "the trial trains in a stack, or was stopped there"
        in command("evaluate.py", f"run={FOLDER}/1").err
    )
    ended = command("train.py", f"resume={FOLDER}/1")
    assert ended.code == 0, ended.err
    assert f"resuming from {FOLDER}/1/checkpoints/last.ckpt" in ended.out
    assert result(1)["epochs"] == 40
    assert (
        "is known by its config"
        in command("train.py", f"resume={FOLDER}/1", "trainer.max_epochs=41").err
    )
    assert command("train.py", *LONG, "sweep=s").code == 0
    assert {result(name)["status"] for name in range(12)} == {"completed", "diverged"}


def test_trials_that_were_killed_in_their_test_are_tested_again(
    command: Command, trained_sweep: Trained
) -> None:
    trained_sweep(*SWEEP, "seed=1,2,3")
    before = [result(name) for name in range(3)]
    for name in "12":
        (FOLDER / name / "result.json").unlink()
    ended = command("train.py", *SWEEP, "seed=1,2,3")
    assert "1 kept (completed), 2 going on from their last checkpoint" in ended.out
    same = ("status", "metrics", "objective", "best_epoch", "epochs", "overrides")
    assert [[result(name)[key] for key in same] for name in range(3)] == [
        [one[key] for key in same] for one in before
    ]


def test_a_full_disk_loses_nothing(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object, **named: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "stack.ckpt")

    with monkeypatch.context() as patch:
        patch.setattr("trialstack.run.stack_file.StackFile.split", full)
        ended = command("train.py", *SWEEP, "seed=1,2")
    assert (ended.code, len(ended.err.splitlines())) == (2, 1)
    assert "cannot write stack.ckpt: No space left on device; make room there, then" in ended.err
    assert [result(name)["status"] for name in range(2)] == ["interrupted"] * 2
    ended = command("train.py", *SWEEP, "seed=1,2")
    assert ended.code == 0, ended.err
    assert "2 going on from their last checkpoint" in ended.out
    assert result(1)["metrics"]["test/acc"] > 0


def test_without_a_terminal_a_long_sweep_says_how_far_it_is(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trialstack.sweep.progress.SILENCE", 0.0)
    ended = command("train.py", *SWEEP, "seed=1,2", "trainer.max_epochs=2")
    assert ended.code == 0, ended.err
    shown = re.findall(r"0/2 trials, epoch (\d)/2, .* samples/s, best val/acc 0\.\d{4}", ended.out)
    assert shown == ["1", "2"]


@pytest.mark.commands
def test_a_terminal_has_one_bar_for_the_sweep(tmp_path: Path) -> None:
    terminal, theirs = os.openpty()
    termios.tcsetwinsize(terminal, (40, 120))
    (tmp_path / "err").symlink_to(os.ttyname(theirs))
    sweep = (*SWEEP, "callbacks=default", "seed=1,2,3", "engine.max_stack=2")
    running = Forked(ROOT / "train.py", sweep, tmp_path, said=tmp_path)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # the end
        while part := os.read(terminal, 65536):
            shown += part
    os.close(terminal)
    _, status = os.waitpid(running.pid, 0)
    lines = [line for line in re.split("[\r\n]+", shown.decode()) if line.strip()]
    assert status == 0, lines
    assert all(line.startswith("s: ") for line in lines)
    assert "3/3 trials" in lines[-1]
    assert re.search(r"samples/s, best val/acc 0\.\d{4}", lines[-1])
    percentages = [int(line.partition("%")[0].split()[-1]) for line in lines]
    assert percentages == sorted(percentages)
    assert percentages[-1] == 100
    assert "stack 1" not in (tmp_path / "out").read_text()


def test_the_leaderboard_folds_seeds_and_shows_what_varies(command: Command) -> None:
    ended = command("train.py", *SWEEP, "optimizer.lr=0.1,0.01", "seed=1,2,3")
    assert ended.code == 0, ended.err
    rows = leaderboard()
    assert list(rows[0])[:5] == ["rank", "optimizer.lr", "val/acc", "ci95", "n"]
    scores = [result(name)["objective"] for name in range(3)]
    mean = sum(scores) / 3
    deviation = (sum((score - mean) ** 2 for score in scores) / 2) ** 0.5
    [row] = [row for row in rows if row["optimizer.lr"] == "0.1"]
    assert float(row["val/acc"]) == pytest.approx(mean)
    assert float(row["ci95"]) == pytest.approx(4.302652729911275 * deviation / 3**0.5)
    assert row["n"] == "3"
    assert f"{mean:.4f} ± {float(row['ci95']):.4f}" in ended.out
    narrow = fitting(Leaderboard(FOLDER).table(), Console(width=50))
    assert [column.header for column in narrow.columns] == [
        "",
        "optimizer.\nlr",
        "val/acc",
        "n",
        "status",
    ]
    assert "| 1 | 0.1 |" in (FOLDER / "leaderboard.md").read_text()
    assert (FOLDER / "sweep.png").read_bytes().startswith(b"\x89PNG")
    before = (FOLDER / "leaderboard.md").read_text()
    assert command("report.py", f"sweep={FOLDER}").code == 0
    assert (FOLDER / "leaderboard.md").read_text() == before


def test_verify_compares_a_trial_with_itself_alone(command: Command) -> None:
    assert (
        command("train.py", *SWEEP, "optimizer.lr=0.1,1e30", "seed=1,2", "model.dropout=0.2").code
        == 0
    )
    for trial in (1, 2):
        ended = command("verify.py", f"trial={FOLDER}/{trial}")
        assert ended.code == 0, ended.out + ended.err
        assert "in a stack of 4" in ended.out
    file = FOLDER / "1/checkpoints/last.ckpt"
    checkpoint = torch.load(file, weights_only=True)
    checkpoint["state_dict"]["network.1.weight"] *= 1.01
    torch.save(checkpoint, file)
    ended = command("verify.py", f"trial={FOLDER}/1")
    assert ended.code == 1
    assert "more than rounding" in ended.out


def test_commands_that_read_sweeps_say_what_is_missing(
    command: Command, trained_sweep: Trained
) -> None:
    assert "sweep=NAME is needed" in command("report.py").err
    ended = command("report.py", "sweep=nothing")
    assert (ended.code, len(ended.err.splitlines())) == (2, 1)
    assert "outputs/sweeps/nothing is no sweep" in ended.err
    assert "trial=FOLDER is needed" in command("verify.py").err
    trained_sweep(*SWEEP, "seed=1,2")
    (FOLDER / "1/result.json").unlink()
    assert "a trial that has ended is needed" in command("verify.py", f"trial={FOLDER}/1").err
    (FOLDER / "sweep.json").write_text("{")
    ended = command("train.py", *SWEEP, "seed=1,2")
    assert (ended.code, len(ended.err.splitlines())) == (2, 1)
    assert "sweep.json is no JSON" in ended.err


@pytest.mark.parametrize(
    ("overrides", "having", "lacking"),
    [
        (
            ("optimizer=sgd,adam", "optimizer.momentum=0.5,0.9"),
            "optimizer=sgd optimizer.momentum=0.5,0.9",
            "optimizer=adam",
        ),
        (
            ("++optimizer.momentum=0.9", "model=mlp300,mlp128"),
            "model=mlp300 ++optimizer.momentum=0.9",
            "model=mlp128",
        ),
    ],
)
def test_a_key_of_one_option_only_is_one_line_with_the_two_commands(
    overrides: tuple[str, ...], having: str, lacking: str, command: Command
) -> None:
    ended = command("train.py", *SWEEP, *overrides)
    assert (ended.code, len(ended.err.splitlines())) == (2, 1)
    assert ended.err.endswith(f"with `{having} sweep=s`, and with `{lacking} sweep=s`\n")
    assert not FOLDER.exists()


def test_two_commands_of_other_optimizers_make_one_sweep(command: Command) -> None:
    for words in (["optimizer=sgd", "optimizer.momentum=0.5,0.9"], ["optimizer=adam"]):
        assert command("train.py", *SWEEP, *words).code == 0
    rows = sorted(leaderboard(), key=lambda row: row["optimizer.momentum"])
    assert [row["optimizer.momentum"] for row in rows] == ["0.5", "0.9", "null"]
    assert [row["trials"] for row in rows] == ["0", "1", "2"]
    assert {row["status"] for row in rows} == {"completed"}


def test_a_key_that_no_option_has_is_hydras_to_explain(command: Command) -> None:
    ended = command("train.py", *SWEEP, "optimizer=sgd,adam", "optimizer.momentun=0.9")
    assert ended.code == 1
    assert "Did you mean 'optimizer.momentum'?" in ended.err
