"""Sweeps whose stacks train in other processes, by Ray and by submitit."""

import json
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.conftest import Ended, composed
from tests.forked import Forked
from tests.run.test_runs import weights
from tests.sweep.test_sweeps import leaderboard, result
from trialstack.core.errors import UserError
from trialstack.run.rehearsal import rehearse
from trialstack.sweep.elsewhere import Place
from trialstack.sweep.workers import wait_for_workers, working

Command = Callable[..., Ended]
Fork = Callable[..., Forked]

SWEEP = (
    "-m", "model.hidden=[8]", "model.dropout=0.2", "trainer.precision=64-true",
    "trainer.max_epochs=3", "logger=none",
)  # fmt: skip
RATES = "optimizer.lr=0.1,0.05,0.02,0.3"
HALVED = ("halving=successive", "halving.factor=2")
MLP, FAILING = "trialstack.models.MLP", "tests.sweep.test_sweeps.Failing"
ONE_FAILS = ("engine.name=eager", f"model._target_={MLP},{FAILING}")
RAY = (
    "hydra/launcher=ray", "hydra.launcher.ray.init.num_cpus=2",
    "hydra.launcher.ray.remote.num_cpus=1",
)  # fmt: skip
SUBMITIT = ("hydra/launcher=submitit_local", "hydra.launcher.cpus_per_task=1")
HERE, THERE = Path("outputs/sweeps/here"), Path("outputs/sweeps/there")


def end(started: Forked) -> Ended:
    out, err = started.communicate()
    assert started.returncode is not None
    return Ended(started.returncode, out, err)


@pytest.mark.parametrize(
    ("trials", "launcher", "said", "failed"),
    [
        ((*HALVED, RATES), RAY, "stack 2 of 2, rung 1 of 2: 2 trials", ""),
        (ONE_FAILS, SUBMITIT, "stack 1 of 2: 1 trial", "1 of 2 trials failed\n"),
    ],
    ids=["ray", "submitit, one fails"],
)
def test_what_is_learned_does_not_depend_on_where(
    fork: Fork,
    command: Command,
    trials: tuple[str, ...],
    launcher: tuple[str, ...],
    said: str,
    failed: str,
) -> None:
    ended = end(fork("train.py", *SWEEP, *trials, "sweep=there", *launcher))
    assert (ended.code, ended.err) == (int(bool(failed)), failed)
    assert said in ended.out, ended.out
    here = command("train.py", *SWEEP, *trials, "sweep=here", "engine.max_stack=2")
    assert (here.code, here.err) == (ended.code, ended.err)
    unlike = ("s/trial", "seconds")
    rows = [
        [{name: x for name, x in row.items() if name not in unlike} for row in leaderboard(folder)]
        for folder in (HERE, THERE)
    ]
    assert rows[0] == rows[1]
    for number in (path.parent.name for path in HERE.glob("*/result.json")):
        statuses = [result(number, folder)["status"] for folder in (THERE, HERE)]
        assert statuses[0] == statuses[1]
        if statuses[0] == "failed":
            continue
        mine, other = (weights(folder / str(number), "last") for folder in (THERE, HERE))
        for name, tensor in mine.items():
            assert torch.allclose(tensor, other[name], rtol=1e-9, atol=1e-12)
        assert result(number, THERE)["host"] == socket.gethostname()
        assert result(number, THERE)["job"]
        assert result(number, HERE)["job"] is None
        assert (THERE / str(number) / "train.log").read_text()


def test_a_driver_that_was_killed_waits_for_its_jobs(
    fork: Fork, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = (*SWEEP, RATES, "sweep=there", "trainer.max_epochs=40", *SUBMITIT)
    driver = fork("train.py", *arguments)
    jobs = THERE / ".jobs.json"
    until = time.monotonic() + 120
    while not jobs.exists() and driver.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    driver.kill()
    driver.communicate()
    submitted = [job["id"] for job in json.loads(jobs.read_text())]
    ended = end(fork("train.py", *arguments))
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
