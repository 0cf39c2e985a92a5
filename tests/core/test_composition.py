"""Composition for sweeps: what Hydra's own gives, of files as they were at first."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.utils import JobRuntime, setup_globals
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from tests.conftest import ROOT
from trialstack.core.hydra_internals import SweepConfigLoader

OVERRIDES = {
    "a value": ["optimizer.lr=0.1", "seed=3"],
    "nothing": [],
    "groups": ["model=mlp128", "data=mnist", "schedule=cosine"],
    "a group and its values": ["optimizer=adam", "optimizer.betas=[0.8,0.9]"],
    "an experiment": ["experiment=article_mnist", "trainer.max_epochs=7"],
    "additions": [
        "+trainer.gradient_clip_val=1.0",
        "+notes.who=me",
        "++notes.why=null",
        "++seed=4",
    ],
    "an added group": ["+optimizer@second=adam", "second.lr=0.5"],
    "a value in the place of a group": ["+trainer={a:1}"],
    "deletions": ["~schedule", "~optimizer.momentum", "~test"],
    "interpolations": [
        "seed=${hydra:job.num}",
        "+name=${model.hidden}",
        "data=mnist",
        "data.root=${oc.env:HOME}",
    ],
    "lists and dictionaries": [
        "model.hidden=[64,32]",
        "+more={a:[1,2],b:{c:null}}",
        "model.hidden=[]",
    ],
    "strings": [
        "+a='x y'",
        '+b="it\'s, quoted"',
        "+c=a\\,b",
        "+d='1'",
        "+e=",
        "+f=true",
        "+g='${seed}'",
    ],
    "hydra's values": [
        "hydra.job.name=other",
        "+hydra.job.env_set.A=b",
        "hydra.verbose=true",
        "hydra.job.chdir=true",
    ],
    "hydra's name": ["++hydra.job.name=other"],
    "hydra's runtime": ["hydra.runtime.cwd=nowhere", "hydra.job.env_copy=[HOME]"],
    "hydra's directory names": [
        "hydra.job.config.override_dirname.exclude_keys=[seed]",
        "seed=2",
        "optimizer.lr=1",
    ],
    "the search path": ["hydra.searchpath=[pkg://tests]", "seed=5"],
}


@pytest.fixture
def loaders(
    hydra_restore_singletons: None,
) -> tuple[ConfigLoaderImpl, SweepConfigLoader, DictConfig]:
    """Hydra's loader, the one for sweeps, and the sweep's config."""
    return _loaders(ROOT / "conf")


def _loaders(conf: Path) -> tuple[ConfigLoaderImpl, SweepConfigLoader, DictConfig]:
    setup_globals()
    JobRuntime.instance().set("name", "train")
    loader = ConfigLoaderImpl(create_config_search_path(str(conf)))
    master = loader.load_configuration("train", ["+hydra.job.env_set.X=y"], RunMode.MULTIRUN)
    return loader, SweepConfigLoader(loader), master


Loaders = tuple[ConfigLoaderImpl, SweepConfigLoader, DictConfig]


@pytest.mark.filterwarnings("ignore:provider=hydra.searchpath")
@pytest.mark.parametrize("overrides", OVERRIDES.values(), ids=OVERRIDES)
def test_every_config_is_what_hydra_composes(overrides: list[str], loaders: Loaders) -> None:
    theirs, ours, master = loaders
    expected = theirs.load_sweep_config(master, list(overrides))
    for _ in range(2):  # the second one from what the first one left
        composed = ours.load_sweep_config(master, list(overrides))
        assert OmegaConf.to_yaml(composed) == OmegaConf.to_yaml(expected)
        assert list(flags(composed)) == list(flags(expected))


def flags(node: Any) -> Iterator[object]:
    """Types, flags and structured types of all nodes."""
    for key in sorted(node, key=str) if isinstance(node, DictConfig) else range(len(node)):
        child = node._get_node(key)
        yield (
            key,
            type(child),
            child._get_flag("struct"),
            child._get_flag("readonly"),
            child._metadata.object_type,
        )
        if OmegaConf.is_config(child) and not child._is_none() and not child._is_missing():
            yield from flags(child)


@pytest.mark.parametrize(
    "overrides",
    [
        ["optimizer.momentun=1"],
        ["model=mlp200"],
        ["+seed=1"],
        ["~nothing"],
        ["optimizer.lr=1,2"],
        ["++data=mnist"],
    ],
)
def test_what_hydra_refuses_is_refused_in_its_words(overrides: list[str], loaders: Loaders) -> None:
    theirs, ours, master = loaders
    errors = []
    for loader in (theirs, ours):
        with pytest.raises(HydraException) as raised:
            loader.load_sweep_config(master, list(overrides))
        errors.append((type(raised.value), str(raised.value), str(raised.value.__cause__)))
    assert errors[0] == errors[1]


def test_edits_of_the_files_change_nothing_later(
    tmp_path: Path, hydra_restore_singletons: None
) -> None:
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    _, ours, master = _loaders(tmp_path / "conf")
    before = ours.load_sweep_config(master, ["seed=1"])
    file = tmp_path / "conf/model/mlp300.yaml"
    file.write_text(file.read_text().replace("[300, 100]", "[7]"))
    (tmp_path / "conf/optimizer/sgd.yaml").unlink()
    after = ours.load_sweep_config(master, ["seed=2"])
    assert (after.model, after.optimizer) == (before.model, before.optimizer)
    assert after.seed == 2


def test_configs_of_a_sweep_share_nothing(loaders: Loaders) -> None:
    _, ours, master = loaders
    first, second = (ours.load_sweep_config(master, []) for _ in range(2))
    as_composed = OmegaConf.to_yaml(second)
    first.model.hidden[0] = 1
    first.optimizer.lr = 7.0
    first.hydra.overrides.task.append("seed=7")
    first.hydra.job.env_set["X"] = "z"
    third = ours.load_sweep_config(master, [])
    assert OmegaConf.to_yaml(second) == as_composed
    assert OmegaConf.to_yaml(third) == as_composed


def test_files_are_merged_once_for_all_jobs_of_the_same_groups(
    loaders: Loaders, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, ours, master = loaders
    merged: list[object] = []
    merge = ConfigLoaderImpl._compose_config_from_defaults_list

    def counted(self: ConfigLoaderImpl, *args: Any, **kwargs: Any) -> DictConfig:
        merged.append(args)
        return merge(self, *args, **kwargs)

    monkeypatch.setattr(ConfigLoaderImpl, "_compose_config_from_defaults_list", counted)
    for number in range(6):
        for model in ("mlp300", "mlp128"):
            ours.load_sweep_config(
                master, [f"model={model}", f"optimizer.lr={number / 10}", f"seed={number}"]
            )
    assert len(merged) == 2
