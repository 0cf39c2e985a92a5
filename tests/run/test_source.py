"""Runs that begin with another one: with its weights, or where it ended."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.conftest import ROOT, Ended, composed
from trialstack.core.errors import UserError
from trialstack.run.metrics_csv import read_rows
from trialstack.run.result import Result
from trialstack.run.source import check_source
from trialstack.run.train import train
from trialstack.run.trial import Trial, check_in_sweep, compose_trial

SMALL = (
    "model.hidden=[8]",
    "trainer.limit_train_batches=5",
    "test=false",
    "logger=none",
    "callbacks=none",
)


def run(folder: Path, *overrides: str) -> Path:
    train([compose_trial([*SMALL, *overrides], folder, conf=ROOT / "conf")])
    return folder


def continued(folder: Path, source: Path, *overrides: str) -> Trial:
    return compose_trial(
        [f"from={source}", "continue=true", *overrides], folder, conf=ROOT / "conf"
    )


def weights(folder: Path, file: str) -> list[Tensor]:
    content = torch.load(folder / "checkpoints" / f"{file}.ckpt", weights_only=True)
    return list(content["state_dict"].values())


def same(some: list[Tensor], others: list[Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(some, others, strict=True))


@pytest.mark.parametrize("engine", ["stacked", "eager"])
def test_each_trial_begins_with_the_best_weights_of_its_own_source(
    engine: str, tmp_path: Path
) -> None:
    once = "trainer.max_epochs=1"
    sources = [run(tmp_path / f"s{seed}", f"seed={seed}", once) for seed in (1, 2)]
    still = ("optimizer.lr=0.0", once, f"engine={engine}", "seed=3")
    trials = [composed(tmp_path / f"t{x.name}", *SMALL, *still, f"from={x}") for x in sources]
    results = train(trials)
    for source, trial, result in zip(sources, trials, results, strict=True):
        assert same(weights(trial.folder, "last"), weights(source, "best"))
        assert (result.origin, result.engine, result.epochs) == (str(source), engine, 1)
    assert results[0].stack_size == (2 if engine == "stacked" else 1)


def test_dropout_may_be_another(tmp_path: Path) -> None:
    source = run(tmp_path / "source", "trainer.max_epochs=1")
    still = ("model.dropout=0.5", "optimizer.lr=0.0", "trainer.max_epochs=1")
    assert same(
        weights(run(tmp_path / "run", *still, f"from={source}"), "last"), weights(source, "best")
    )


def test_another_network_is_refused_by_its_layers(tmp_path: Path) -> None:
    source = run(tmp_path / "source", "trainer.max_epochs=1")
    expected = r"got other layers: network.1.weight \(\[8, 784\] there, \[9, 784\] here\),"
    with pytest.raises(UserError, match=expected):
        run(tmp_path / "wider", f"from={source}", "model.hidden=[9]")
    with pytest.raises(UserError, match=r"network.5.weight \(none there, \[10, 8\] here\)"):
        run(tmp_path / "deeper", f"from={source}", "model.hidden=[8,8]")


@pytest.mark.parametrize("engine", ["stacked", "eager"])
def test_one_that_continues_equals_one_that_was_as_long_at_once(
    engine: str, tmp_path: Path
) -> None:
    recipe = (f"engine={engine}", "optimizer=adam", "model.dropout=0.2")
    source = run(tmp_path / "source", *recipe, "trainer.max_epochs=2")
    before = {path: path.read_bytes() for path in source.rglob("*") if path.is_file()}
    whole = run(tmp_path / "whole", *recipe, "trainer.max_epochs=4")
    trial = continued(tmp_path / "longer", source, "trainer.max_epochs=4")
    train([trial])
    assert same(weights(trial.folder, "last"), weights(whole, "last"))
    assert same(weights(trial.folder, "best"), weights(whole, "best"))
    rows, expected = (
        [row | {"seconds": 0.0} for row in read_rows(folder / "metrics.csv")]
        for folder in (trial.folder, whole)
    )
    assert rows == expected
    assert all(path.read_bytes() == content for path, content in before.items())
    result = Result.read(trial.folder)
    assert result is not None
    assert result.origin == str(source)


def test_what_cannot_be_continued_is_refused(tmp_path: Path) -> None:
    source = run(tmp_path / "source", "trainer.max_epochs=2")
    with pytest.raises(UserError, match=r"trainer.max_epochs > 2 must hold .*; try .*=4"):
        continued(tmp_path / "a", source)
    config = (source / ".hydra" / "config.yaml").read_text()
    cosine = config.replace("name: constant", "name: cosine\n  eta_min: 0.0")
    (source / ".hydra" / "config.yaml").write_text(cosine)
    with pytest.raises(UserError, match=r"schedule=cosine is laid out for trainer.max_epochs=2"):
        continued(tmp_path / "a", source, "trainer.max_epochs=4")
    with pytest.raises(UserError, match="run folder nowhere does not exist"):
        check_source(composed(tmp_path / "b", "from=nowhere").config)
    (source / "checkpoints" / "best.ckpt").write_bytes(b"something else")
    with pytest.raises(UserError, match=r"best.ckpt is damaged or no checkpoint"):
        check_source(composed(tmp_path / "b", f"from={source}").config)
    with pytest.raises(UserError, match="continue=true needs from=FOLDER, got none"):
        composed(tmp_path / "b", "continue=true")
    with pytest.raises(UserError, match="continue=true trains one run longer, got -m"):
        check_in_sweep(composed(tmp_path / "b", f"from={source}", "continue=true").config)
    assert not (tmp_path / "a").exists()


def test_a_trial_of_a_sweep_trains_longer_in_a_folder_of_its_own(
    command: Callable[..., Ended],
) -> None:
    few = ("model.hidden=[8]", "trainer.limit_train_batches=2", "trainer.max_epochs=1")
    swept = command("train.py", "-m", "sweep=lr", "optimizer.lr=0.1,0.01", *few)
    [longer] = [line for line in swept.out.splitlines() if line.startswith("longer: python ")]
    script, *arguments = longer.removeprefix("longer: python ").split()
    row = Path("outputs/sweeps/lr/0/result.json").read_bytes()
    ended = command(script, *arguments)
    assert ended.code == 0, ended.err
    [folder] = Path("outputs/runs").glob("lr-[01]-*")
    result = json.loads((folder / "result.json").read_text())
    assert (result["epochs"], result["stack_size"]) == (2, 1)
    assert Path("outputs/sweeps/lr/0/result.json").read_bytes() == row
    assert command("train.py", f"resume={folder}", "trainer.max_epochs=3").code == 0
    refused = command("train.py", f"from={folder}", "continue=true", "optimizer.lr=1")
    assert refused.code == 2
    assert "of which only trainer.* can change, got optimizer.lr=1" in refused.err
    assert len(list(Path("outputs/runs").iterdir())) == 1
