"""`logger=mlflow`, with the real package and a database of its own."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Ended

pytest.importorskip("mlflow")
pytest.importorskip("mlflow.store.tracking.sqlalchemy_store")
pytestmark = pytest.mark.filterwarnings("default")

Command = Callable[..., Ended]

QUICK = (
    "model.hidden=[8]", "trainer.limit_train_batches=2", "callbacks=none", "logger=mlflow",
    "trainer.max_epochs=2",
)  # fmt: skip


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One for all tests: MLflow takes seconds to make it."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture(autouse=True)
def _tracked_there(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)


def tracked(folder: str) -> Any:
    """The run of a trial."""
    return _client().get_run(json.loads((Path(folder) / "mlflow.json").read_text())["run"])


def steps(run: Any) -> list[int]:
    """The optimizer steps of a run's epochs."""
    return [metric.step for metric in _client().get_metric_history(run.info.run_id, "train/loss")]


def _client() -> Any:
    from mlflow.tracking import MlflowClient

    return MlflowClient(os.environ["MLFLOW_TRACKING_URI"])


def test_trials_of_a_sweep_have_a_run_each(command: Command) -> None:
    ended = command("train.py", "-m", "sweep=s", *QUICK, "optimizer.lr=0.1,1e30")
    assert ended.code == 0, ended.err
    run = tracked("outputs/sweeps/s/0")
    result = json.loads(Path("outputs/sweeps/s/0/result.json").read_text())
    assert run.info.run_name == "0"
    assert run.info.status == "FINISHED"
    assert (run.data.tags["sweep"], run.data.tags["status"]) == ("s", "completed")
    assert run.data.params["optimizer.lr"] == "0.1"
    assert run.data.metrics["objective"] == result["objective"]
    assert run.data.metrics["test/acc"] == result["metrics"]["test/acc"]
    assert steps(run) == [2, 4]
    diverged = tracked("outputs/sweeps/s/1")
    assert (diverged.info.status, diverged.data.tags["status"]) == ("FAILED", "diverged")


def test_a_resumed_trial_goes_on_in_the_same_run(command: Command) -> None:
    names = []
    for arguments in ((*QUICK, "hydra.run.dir=run"), ("resume=run", "trainer.max_epochs=3")):
        ended = command("train.py", *arguments)
        assert ended.code == 0, ended.err
        run = tracked("run")
        names.append(run.info.run_id)
    assert len(set(names)) == 1
    assert steps(run) == [2, 4, 6]
    assert run.info.status == "FINISHED"


def test_a_trial_whose_run_was_deleted_begins_a_new_one(command: Command) -> None:
    assert command("train.py", *QUICK, "hydra.run.dir=run").code == 0
    before = tracked("run").info.run_id
    _client().delete_run(before)
    ended = command("train.py", "resume=run", "trainer.max_epochs=3")
    assert ended.code == 0, ended.err
    assert tracked("run").info.run_id != before
    assert steps(tracked("run")) == [2, 4, 6]
