"""Sweeps whose stacks train in other processes, by Ray and by submitit."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.conftest import Ended, composed
from tests.run.test_runs import weights
from tests.sweep.test_sweeps import leaderboard, result
from trialstack.core.errors import UserError
from trialstack.run.rehearsal import rehearse
from trialstack.sweep.elsewhere import Place
from trialstack.sweep.workers import wait_for_workers, working

Command = Callable[..., Ended]
Process = Callable[..., "subprocess.Popen[str]"]

SWEEP = (
    "-m", "model.hidden=[8]", "model.dropout=0.2", "trainer.precision=64-true",
    "trainer.max_epochs=3", "logger=none",
)  # fmt: skip
RATES = "optimizer.lr=0.1,0.05,0.02,0.3"
HALVED = ("halving=successive", "halving.factor=2")
RAY = (
    "hydra/launcher=ray", "hydra.launcher.ray.init.num_cpus=2",
    "hydra.launcher.ray.remote.num_cpus=1",
)  # fmt: skip
SUBMITIT = ("hydra/launcher=submitit_local", "hydra.launcher.cpus_per_task=1")
HERE, THERE = Path("outputs/sweeps/here"), Path("outputs/sweeps/there")


def end(started: "subprocess.Popen[str]") -> Ended:
    out, err = started.communicate()
    return Ended(started.returncode, out, err)


@pytest.mark.parametrize(
    ("halved", "launcher", "said"),
    [
        (HALVED, RAY, "stack 2 of 2, rung 1 of 2: 2 trials"),
        ((), SUBMITIT, "stack 2 of 2: 2 trials"),
    ],
    ids=["ray", "submitit"],
)
def test_what_is_learned_does_not_depend_on_where(
    process: Process,
    command: Command,
    halved: tuple[str, ...],
    launcher: tuple[str, ...],
    said: str,
) -> None:
    ended = end(process("train.py", *SWEEP, *halved, RATES, "sweep=there", *launcher))
    assert ended.code == 0, ended.err
    assert said in ended.out, ended.out
    here = command("train.py", *SWEEP, *halved, RATES, "sweep=here", "engine.max_stack=2")
    assert here.code == 0, here.err
    unlike = ("s/trial", "seconds")
    rows = [
        [{name: x for name, x in row.items() if name not in unlike} for row in leaderboard(folder)]
        for folder in (HERE, THERE)
    ]
    assert rows[0] == rows[1]
    for number in range(4):
        mine, other = (weights(folder / str(number), "last") for folder in (THERE, HERE))
        for name, tensor in mine.items():
            assert torch.allclose(tensor, other[name], rtol=1e-9, atol=1e-12)
        assert result(number, THERE)["host"] == socket.gethostname()
        assert result(number, THERE)["job"]
        assert result(number, HERE)["job"] is None
        assert (THERE / str(number) / "train.log").read_text()


def test_a_trial_that_fails_elsewhere_leaves_the_others(
    process: Process, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    model = "model._target_=trialstack.models.MLP,tests.sweep.test_sweeps.Failing"
    ended = end(process("train.py", *SWEEP, model, "sweep=there", *SUBMITIT))
    assert ended.code == 1, ended.err
    assert [result(number, THERE)["status"] for number in range(2)] == ["completed", "failed"]
    assert "1 of 2 trials failed" in ended.err


def test_a_driver_that_was_killed_waits_for_its_jobs(
    process: Process, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = (*SWEEP, RATES, "sweep=there", "trainer.max_epochs=40", *SUBMITIT)
    driver = process("train.py", *arguments)
    jobs = THERE / ".jobs.json"
    until = time.monotonic() + 120
    while not jobs.exists() and driver.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    for stream in (driver.stdout, driver.stderr):  # which its jobs have too
        assert stream is not None
        stream.close()
    submitted = [job["id"] for job in json.loads(jobs.read_text())]
    ended = end(process("train.py", *arguments))
    assert ended.code == 0, ended.err
    assert "waiting for jobs of an earlier command that still run" in ended.out
    assert {result(number, THERE)["job"] for number in range(4)} <= set(submitted)
    assert all(result(number, THERE)["epochs"] == 40 for number in range(4))
    assert not jobs.exists()


def test_a_driver_needs_no_gpu_for_those_of_a_cluster(tmp_path: Path) -> None:
    config = composed(tmp_path, "trainer.accelerator=gpu", "trainer.devices=[3]").config
    with pytest.raises(UserError, match="needs a GPU that torch can use"):
        rehearse([config])
    rehearse([config], on_this_machine=False)


def test_a_job_that_still_trains_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trialstack.sweep.workers.PATIENCE", 0.2)
    with working(tmp_path, "7"):
        with pytest.raises(UserError, match="7, a job of an earlier command, still trains"):
            wait_for_workers(tmp_path)
        with pytest.raises(UserError, match="still trains"), working(tmp_path, "7"):
            pass
    wait_for_workers(tmp_path)
    with working(tmp_path, "7"):
        pass


def test_storage_that_is_not_shared_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    place = Place.here(tmp_path)
    place.enter()
    place.probe.unlink()
    with pytest.raises(UserError, match="must be on storage that all workers see"):
        place.enter()


@pytest.mark.parametrize(
    ("module", "launcher", "says"),
    [
        ("ray", "ray", "hydra/launcher=ray needs Ray; pip install 'trialstack[ray]'"),
        ("submitit", "submitit_slurm", "needs submitit; pip install 'trialstack[slurm]'"),
    ],
)
def test_it_is_said_what_to_install(
    command: Command, monkeypatch: pytest.MonkeyPatch, module: str, launcher: str, says: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    ended = command("train.py", *SWEEP, RATES, "sweep=there", f"hydra/launcher={launcher}")
    assert ended.code == 2, ended.err
    assert says in ended.err


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["hydra.launcher.ray.remote.num_cpus=0"], "must be a whole number of at least 1, got 0"),
        (["hydra.launcher.ray.remote.max_retries=-1"], "must be a whole number of at least 0"),
    ],
)
def test_options_of_ray_that_cannot_be(command: Command, overrides: list[str], says: str) -> None:
    ended = command("train.py", *SWEEP, RATES, "hydra/launcher=ray", *overrides)
    assert ended.code == 2, ended.err
    assert says in ended.err
