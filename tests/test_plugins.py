"""The launcher and the sweeper against Hydra's own tests of such plugins, and against Hydra's basic ones."""

import pytest
from hydra.test_utils.launcher_common_tests import BatchedSweeperTestSuite, IntegrationTestSuite, LauncherTestSuite


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
