"""Configs of a project's own, in `conf/` of the working folder."""

from pathlib import Path

import pytest
from hydra._internal.utils import create_config_search_path

from tests.conftest import ROOT
from trialstack.core.configs import CONF
from trialstack.run.trial import compose_trial


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's `conf/`, with a model."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf/model").mkdir(parents=True)
    (tmp_path / "conf/model/mine.yaml").write_text(
        "_target_: trialstack.models.MLP\nhidden: [5]\ndropout: 0.0\nactivation: relu\n"
        "init: xavier_uniform\n"
    )
    return tmp_path / "conf"


def test_own_options_add_to_and_override_those_that_are_brought(own: Path) -> None:
    (own / "schedule").mkdir()
    (own / "schedule/constant.yaml").write_text("name: constant\nwarmup_epochs: 2\n")
    config = compose_trial(["model=mine"], own.parent / "run").config
    assert config.model.values["hidden"] == [5]
    assert config.schedule.values["warmup_epochs"] == 2
    assert config.optimizer.values["lr"] == 0.01


def test_an_own_train_yaml_takes_the_place_of_the_one_that_is_brought(own: Path) -> None:
    brought = (CONF / "train.yaml").read_text()
    (own / "train.yaml").write_text(brought.replace("- model: mlp300", "- model: mine"))
    assert compose_trial([], own.parent / "run").config.model.values["hidden"] == [5]


def test_other_programs_and_a_clone_find_what_they_found(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def providers(conf: Path) -> list[str]:
        return [element.provider for element in create_config_search_path(str(conf)).get_path()]

    assert providers(CONF) == ["hydra", "own", "main", "schema"]
    assert providers(own) == ["hydra", "main", "schema"]
    monkeypatch.chdir(ROOT)
    assert providers(CONF) == ["hydra", "main", "schema"]
