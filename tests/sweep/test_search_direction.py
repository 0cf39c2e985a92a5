"""A search minimises or maximises as the objective says."""

import logging
from dataclasses import dataclass
from enum import Enum
from typing import Any

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobRuntime, setup_globals
from hydra.types import RunMode
from omegaconf import DictConfig

from tests.conftest import ROOT
from trialstack.sweep.search_direction import FollowObjective


class Direction(Enum):
    """As hydra-optuna-sweeper has it."""

    minimize = 1
    maximize = 2


@dataclass
class SearchConf:
    _target_: str = "hydra_plugins.search.Search"
    direction: Any = Direction.minimize


@pytest.fixture
def loader(hydra_restore_singletons: None) -> ConfigLoaderImpl:
    setup_globals()
    JobRuntime.instance().set("name", "train")
    ConfigStore.instance().store(group="hydra/sweeper", name="search", node=SearchConf)
    return ConfigLoaderImpl(create_config_search_path(str(ROOT / "conf")))


def started(loader: ConfigLoaderImpl, *overrides: str) -> DictConfig:
    """Return the config that a sweeper gets."""
    config = loader.load_configuration("train", list(overrides), RunMode.MULTIRUN)
    FollowObjective().on_multirun_start(config)
    return config


@pytest.mark.parametrize(
    ("objective", "direction"),
    [
        ("val/acc", "maximize"),
        ("val/loss", "minimize"),
        ("train/acc", "maximize"),
        ("train/loss", "minimize"),
    ],
)
def test_a_search_goes_where_the_objective_is_better(
    objective: str, direction: str, loader: ConfigLoaderImpl, caplog: pytest.LogCaptureFixture
) -> None:
    config = started(loader, "hydra/sweeper=search", f"objective={objective}")
    assert (
        getattr(config.hydra.sweeper.direction, "name", config.hydra.sweeper.direction) == direction
    )
    assert not caplog.records


def test_jobs_of_the_search_have_its_direction_in_their_configs(loader: ConfigLoaderImpl) -> None:
    config = started(loader, "hydra/sweeper=search")
    assert loader.load_sweep_config(config, ["seed=2"]).hydra.sweeper.direction == "maximize"


@pytest.mark.parametrize(
    "given", ["hydra.sweeper.direction=minimize", "++hydra.sweeper.direction=minimize"]
)
def test_a_direction_of_the_users_own_stays_and_a_line_says_when_it_disagrees(
    given: str, loader: ConfigLoaderImpl, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        config = started(loader, "hydra/sweeper=search", given)
    assert config.hydra.sweeper.direction == "minimize"
    [line] = caplog.messages
    assert line == (
        "hydra.sweeper.direction=minimize disagrees with objective=val/acc, which is better the "
        "greater; leave it out"
    )


def test_a_direction_of_the_users_own_that_agrees_stays_without_a_line(
    loader: ConfigLoaderImpl, caplog: pytest.LogCaptureFixture
) -> None:
    config = started(
        loader, "hydra/sweeper=search", "objective=val/loss", "hydra.sweeper.direction=minimize"
    )
    assert config.hydra.sweeper.direction == "minimize"
    assert not caplog.records


@pytest.mark.parametrize("sweeper", ["grid", "basic"])
def test_sweepers_without_a_direction_are_left_alone(
    sweeper: str, loader: ConfigLoaderImpl
) -> None:
    assert "direction" not in started(loader, f"hydra/sweeper={sweeper}").hydra.sweeper
