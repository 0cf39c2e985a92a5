"""The launcher and the sweeper against Hydra's own tests of such plugins, and against Hydra's basic
ones.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
from hydra.core.config_store import ConfigStore
from hydra.test_utils.launcher_common_tests import (
    BatchedSweeperTestSuite,
    IntegrationTestSuite,
    LauncherTestSuite,
)

from tests.conftest import Ended

Command = Callable[..., Ended]


@pytest.mark.parametrize(("launcher_name", "overrides"), [("stacked", ["hydra.job.chdir=true"])])
class TestLauncher(LauncherTestSuite):
    """Any task function, one after another."""


@pytest.mark.parametrize(
    ("launcher_name", "overrides"), [("stacked", ["hydra.job.chdir=true", "hydra/sweeper=grid"])]
)
class TestGridSweeper(LauncherTestSuite):
    pass


@pytest.mark.parametrize(
    ("launcher_name", "overrides"),
    [
        ("stacked", ["hydra.job.chdir=true", "hydra.sweeper.max_batch_size=2"]),
        (
            "stacked",
            ["hydra.job.chdir=true", "hydra/sweeper=grid", "hydra.sweeper.max_batch_size=2"],
        ),
    ],
)
class TestBatches(BatchedSweeperTestSuite):
    pass


@pytest.mark.parametrize(
    ("task_launcher_cfg", "extra_flags"), [({}, ["-m", "hydra/launcher=stacked"])]
)
class TestIntegration(IntegrationTestSuite):
    pass


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "optimizer.lr=interval(0.01,0.1)",
            "optimizer.lr=interval(0.01,0.1) is an interval, which has no list of values; use "
            "choice(...) or "
            "range(...), or search in it with hydra/sweeper=optuna",
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


def test_lists_of_the_sweepers_own_can_be_given_on_the_command_line(
    command: Callable[..., Ended],
) -> None:
    ended = command("train.py", "-m", "+hydra.sweeper.params={seed: '1,2'}", "dry_run=true")
    assert ended.out.startswith("sweep of 2 trials"), ended.err


def test_lists_of_the_sweepers_own_that_are_not_added_are_refused_without_a_traceback(
    command: Callable[..., Ended],
) -> None:
    ended = command("train.py", "-m", "hydra.sweeper.params={seed: '1,2'}", "dry_run=true")
    assert ended.code == 1
    assert "To append to your config use +hydra.sweeper.params" in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("group", ["launcher=submitit_local", "sweeper=optuna"])
def test_a_plugin_of_the_same_name_does_not_matter(group: str, command: Command) -> None:
    kind, _, name = group.partition("=")
    ConfigStore.instance().store(name, {"_target_": "another.Plugin"}, f"hydra/{kind}")
    ended = command("train.py", f"hydra/{group}", "--cfg", "hydra", "-p", f"hydra.{kind}")
    assert ended.code == 0, ended.err
    assert "_target_: hydra_plugins." in ended.out
