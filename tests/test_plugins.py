"""The launcher and the sweeper against Hydra's own tests of such plugins, and against Hydra's basic ones."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hydra.test_utils.launcher_common_tests import BatchedSweeperTestSuite, IntegrationTestSuite, LauncherTestSuite

from tests.conftest import Ended


@pytest.mark.parametrize(("launcher_name", "overrides"), [("stacked", ["hydra.job.chdir=true"])])
class TestLauncher(LauncherTestSuite):
    """Any task function, one after another."""


@pytest.mark.parametrize(("launcher_name", "overrides"), [("stacked", ["hydra.job.chdir=true", "hydra/sweeper=grid"])])
class TestGridSweeper(LauncherTestSuite):
    pass


@pytest.mark.parametrize(
    ("launcher_name", "overrides"),
    [
        ("stacked", ["hydra.job.chdir=true", "hydra.sweeper.max_batch_size=2"]),
        ("stacked", ["hydra.job.chdir=true", "hydra/sweeper=grid", "hydra.sweeper.max_batch_size=2"]),
    ],
)
class TestBatches(BatchedSweeperTestSuite):
    pass


@pytest.mark.parametrize(("task_launcher_cfg", "extra_flags"), [({}, ["-m", "hydra/launcher=stacked"])])
class TestIntegration(IntegrationTestSuite):
    pass


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "optimizer.lr=interval(0.01,0.1)",
            "optimizer.lr=interval(0.01,0.1) is an interval, which has no list of values; use choice(...) or "
            "range(...), or search in it with hydra/sweeper=optuna, of the plugin hydra-optuna-sweeper",
        ),
        (
            "hydra.sweeper.max_batch_size=0",
            "hydra.sweeper.max_batch_size >= 1 must hold, got 0; leave it out to have one batch",
        ),
    ],
)
def test_what_a_grid_cannot_list_is_refused_in_one_line(
    override: str, message: str, command: Callable[..., Ended]
) -> None:
    ended = command("train.py", "-m", override)
    assert (ended.code, ended.err, ended.out) == (2, message + "\n", "")
    assert not Path("outputs").exists()
