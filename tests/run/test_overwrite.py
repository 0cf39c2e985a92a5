"""`compose_trial(..., overwrite=True)`: a run in the place of another one."""

import json
from pathlib import Path
from typing import Any

import pytest

from trialstack.core.errors import Interrupted, UserError
from trialstack.run.folder import remove_run
from trialstack.run.train import train
from trialstack.run.trained import evaluate
from trialstack.trials import compose_trial

SMALL = ("model.hidden=[8]", "trainer.max_epochs=2", "callbacks=none")
RUN = Path("run")


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_nothing_is_left_of_the_run_before(tmp_path: Path) -> None:
    [result] = train([compose_trial([*SMALL, "logger=[tensorboard,csv]"], RUN)])
    assert result.folder == tmp_path / "run"
    assert "folder" not in json.loads((RUN / "result.json").read_text())
    assert evaluate(result.folder).metrics["test/acc"] == result.metrics["test/acc"]
    with pytest.raises(UserError, match=r"run already holds a run; .* overwrite=True starts anew"):
        compose_trial(SMALL, RUN)
    trial = compose_trial([*SMALL, "seed=2"], RUN, overwrite=True)
    left = {str(path.relative_to(RUN)) for path in RUN.rglob("*")}
    assert left == {".hydra", ".hydra/config.yaml", ".hydra/overrides.yaml"}
    assert trial.config.seed == 2
    assert not trial.resume


def test_a_wrong_config_deletes_nothing() -> None:
    before = begun()
    with pytest.raises(UserError, match=r"data\.batch_size"):
        compose_trial([*SMALL, "data.batch_size=0"], RUN, overwrite=True)
    with pytest.raises(UserError, match="from=run is the run to be overwritten"):
        compose_trial([*SMALL, "from=run"], RUN, overwrite=True)
    assert begun() == before


def test_a_folder_with_more_than_a_run_stays() -> None:
    before = begun()
    (RUN / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"run/notes.txt is there, and of no run, so run is not"):
        compose_trial(SMALL, RUN, overwrite=True)
    (RUN / "notes.txt").unlink()
    (RUN / "checkpoints/best.ckpt").symlink_to("elsewhere")
    with pytest.raises(UserError, match="is a symbolic link"):
        compose_trial(SMALL, RUN, overwrite=True)
    (RUN / "checkpoints/best.ckpt").unlink()
    assert begun() == before


def test_a_trial_of_a_sweep_stays() -> None:
    Path("sweep/0").mkdir(parents=True)
    Path("sweep/sweep.json").touch()
    with pytest.raises(UserError, match="is in a sweep"):
        remove_run(Path("sweep/0"))


def test_others_of_its_stack_keep_what_they_have_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    trials = [compose_trial([*SMALL, f"seed={seed}"], Path(f"run-{seed}")) for seed in (1, 2)]
    with monkeypatch.context() as patch:
        patch.setattr("trialstack.run.fit.Fit._record_end", stop)
        patch.setattr("trialstack.run.stack_file.StackFile.split", lambda *_: None)
        with pytest.raises(Interrupted):
            train(trials)
    other = Path("run-2/checkpoints")
    assert [path.name for path in other.iterdir()] == ["stack.ckpt"]
    compose_trial([*SMALL, "seed=3"], Path("run-1"), overwrite=True)
    assert {path.name for path in other.iterdir()} == {"best.ckpt", "last.ckpt"}


def begun() -> set[Path]:
    """Have a run in `RUN` that has come to its first checkpoint, and return what is there."""
    if not RUN.exists():
        compose_trial(SMALL, RUN)
        (RUN / "checkpoints").mkdir()
    return set(RUN.rglob("*"))
