"""Files of other people: a run and a sweep write and remove what is their own, whatever files and
links say.
"""

import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import Ended
from tests.sweep.test_sweeps import FOLDER, SWEEP, result
from trialstack.core.atomic_files import remove_parts, replaced, replaced_folder
from trialstack.sweep.report import report_sweep

Command = Callable[..., Ended]


def is_one_line(ended: Ended, message: str) -> bool:
    assert (ended.code, len(ended.err.splitlines())) == (2, 1), ended.err
    assert message in ended.err
    return True


@pytest.mark.parametrize("name", ["tensorboard", "sweep.png", "leaderboard.csv"])
def test_a_new_sweep_does_not_take_over_what_lies_in_its_folder(
    name: str, command: Command
) -> None:
    Path("proj", name).mkdir(parents=True)
    Path("proj", name, "mine").write_text("years of work")
    ended = command("train.py", *SWEEP[:-1], "hydra.sweep.dir=proj", "seed=1,2")
    assert is_one_line(ended, f"proj/{name} is there, and no sweep's; move it")
    assert Path("proj", name, "mine").read_text() == "years of work"
    assert not Path("proj/0").exists()


@pytest.mark.parametrize(
    "name",
    [
        "events.out.tfevents.1.other.1.0",
        "evaluation.json",
        "history.png",
        "train.log",
        ".hydra/mine.yaml",
        "notes/a",
    ],
)
def test_a_new_run_does_not_take_over_what_lies_in_its_folder(name: str, command: Command) -> None:
    Path("proj", name).parent.mkdir(parents=True)
    Path("proj", name).write_text("years of work")
    ended = command("train.py", "model.hidden=[8]", "trainer.max_epochs=1", "hydra.run.dir=proj")
    assert is_one_line(ended, " is there, and of no run; a run needs a folder of its own")
    assert [path.read_text() for path in Path("proj").rglob("*") if path.is_file()] == [
        "years of work"
    ]


def test_a_sweep_does_not_write_its_config_through_a_link(command: Command) -> None:
    Path("precious.yaml").write_text("mine")
    FOLDER.mkdir(parents=True)
    (FOLDER / "multirun.yaml").symlink_to(Path("precious.yaml").absolute())
    assert command("train.py", *SWEEP, "seed=1,2").code == 0
    assert Path("precious.yaml").read_text() == "mine"


@pytest.mark.parametrize("name", ["..", "."])
def test_a_sweep_needs_a_name_of_its_own(name: str, command: Command) -> None:
    Path("outputs/tensorboard").mkdir(parents=True)
    ended = command("train.py", *SWEEP[:-1], f"sweep={name}", "seed=1,2")
    assert is_one_line(ended, f"sweep must be a name without /, got '{name}'")
    assert Path("outputs/tensorboard").exists()


@pytest.mark.parametrize(
    "subdir", ["tensorboard", ".", "..", "../../elsewhere", "sweep.json", "/tmp/elsewhere"]
)
def test_a_trial_has_a_folder_of_its_own_in_the_sweeps(subdir: str, command: Command) -> None:
    ended = command("train.py", *SWEEP, "seed=1,2", f"hydra.sweep.subdir={subdir}")
    assert is_one_line(
        ended,
        "a trial's folder must lie in outputs/sweeps/s and bear no name of the sweep's own files",
    )
    assert not list(Path("outputs").rglob("result.json"))


def renamed(name: str) -> None:
    """Have the sweep's index call its second trial `name`."""
    index = json.loads((FOLDER / "sweep.json").read_text())
    index["trials"][name] = index["trials"].pop("1")
    (FOLDER / "sweep.json").write_text(json.dumps(index))


@pytest.mark.parametrize("script", ["train.py", "report.py"])
@pytest.mark.parametrize("way", ["up", "absolute", "link"])
def test_a_trial_elsewhere_is_not_believed(
    script: str,
    way: str,
    command: Command,
    trained_sweep: Callable[..., Path],
    tmp_path: Path,
) -> None:
    trained_sweep(*SWEEP, "seed=1,2")
    victim = tmp_path / "victim"
    shutil.copytree(FOLDER / "1", victim)
    (victim / "result.json").unlink()
    if way == "link":
        (FOLDER / "linked").symlink_to(victim)
    name = {"up": "../../../victim", "absolute": str(victim), "link": "linked"}[way]
    renamed(name)
    before = sorted(victim.rglob("*"))
    arguments = [*SWEEP, "seed=1,2"] if script == "train.py" else ["sweep=s"]
    assert is_one_line(command(script, *arguments), f"got {name!r}")
    assert sorted(victim.rglob("*")) == before


@pytest.fixture
def stopped(command: Command, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A sweep of two trials that was stopped in its stack; returns the content of its
    checkpoint.
    """

    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("trialstack.run.fit.Fit._record_end", stop)
        patch.setattr("trialstack.run.stack_file.StackFile.split", lambda *arguments: None)
        assert command("train.py", *SWEEP, "seed=1,2").code == 130
    content: dict[str, Any] = torch.load(FOLDER / "0/checkpoints/stack.ckpt", weights_only=True)
    return content


def test_a_stacks_checkpoint_names_no_other_folders(
    stopped: dict[str, Any], command: Command, tmp_path: Path
) -> None:
    (tmp_path / "victim/checkpoints").mkdir(parents=True)
    (tmp_path / "victim/checkpoints/last.ckpt").write_text("mine")
    stopped["callbacks"]["StackCheckpoint"]["folders"][1] = "../../../../victim"
    torch.save(stopped, FOLDER / "0/checkpoints/stack.ckpt")
    assert command("train.py", *SWEEP, "seed=1,2").code == 0
    assert command("train.py", f"resume={FOLDER}/0").code == 0
    assert [path.name for path in (tmp_path / "victim").rglob("*.ckpt")] == ["last.ckpt"]
    assert (tmp_path / "victim/checkpoints/last.ckpt").read_text() == "mine"
    assert [result(name)["status"] for name in range(2)] == ["completed"] * 2


@pytest.mark.parametrize("name", ["precious.ckpt", "checkpoints/stack.ckpt"])
def test_a_link_in_the_place_of_a_stacks_checkpoint_costs_its_target_nothing(
    name: str, stopped: dict[str, Any], command: Command, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere" / name
    elsewhere.parent.mkdir(parents=True)
    (FOLDER / "0/checkpoints/stack.ckpt").rename(elsewhere)
    (FOLDER / "0/checkpoints/stack.ckpt").symlink_to(elsewhere)
    ended = command("train.py", *SWEEP, "seed=1,2")
    assert ended.code == 0, ended.err
    assert "0/checkpoints/stack.ckpt cannot be used" in ended.out
    assert elsewhere.exists()
    assert [result(name)["status"] for name in range(2)] == ["completed"] * 2


@pytest.mark.parametrize("size", [0, 1000])
def test_trials_of_a_damaged_stacks_checkpoint_train_anew(
    size: int, stopped: dict[str, Any], command: Command
) -> None:
    file = FOLDER / "0/checkpoints/stack.ckpt"
    file.write_bytes(file.read_bytes()[:size])
    ended = command("train.py", *SWEEP, "seed=1,2")
    assert ended.code == 0, ended.err
    assert (
        len([line for line in ended.out.splitlines() if "stack.ckpt cannot be used" in line]) == 1
    )
    assert [(result(name)["status"], result(name)["stack_size"]) for name in range(2)] == [
        ("completed", 2)
    ] * 2


@pytest.mark.parametrize(
    "name", ["train.log", "checkpoints", ".hydra/config.yaml", "checkpoints/last.ckpt"]
)
def test_a_run_does_not_write_through_links(
    name: str, command: Command, trained_run: Callable[..., Path]
) -> None:
    trained_run("model.hidden=[8]", "trainer.max_epochs=1")
    Path("run", name).rename("precious")
    Path("run", name).symlink_to(Path("precious").absolute())
    before = {
        path: path.stat().st_mtime_ns for path in [Path("precious"), *Path("precious").rglob("*")]
    }
    ended = command("train.py", "resume=run", "trainer.max_epochs=2")
    assert is_one_line(ended, f"run/{name} is a symbolic link")
    assert {
        path: path.stat().st_mtime_ns for path in [Path("precious"), *Path("precious").rglob("*")]
    } == before


def test_a_new_run_does_not_log_through_a_link(command: Command) -> None:
    Path("precious").write_text("mine")
    Path("a").mkdir()
    Path("a/train.log").symlink_to("../precious")
    assert is_one_line(command("train.py", "hydra.run.dir=a"), "a/train.log is a symbolic link")
    assert Path("precious").read_text() == "mine"


def test_a_trial_that_is_trained_anew_keeps_its_last_log(command: Command) -> None:
    failing = "model._target_=tests.sweep.test_sweeps.Failing"
    for _ in range(2):
        assert command("train.py", *SWEEP, failing, "seed=1").code == 1
    before = (FOLDER / "0/train.log.1").read_text()
    assert "Traceback" in before
    assert command("train.py", *SWEEP, failing, "seed=1").code == 1
    assert (FOLDER / "0/train.log.1").read_text() != before


def test_a_folder_whose_run_never_began_is_free(command: Command) -> None:
    Path("a/.hydra").mkdir(parents=True)
    Path("a/.hydra/config.yaml").touch()
    ended = command("train.py", "model.hidden=[8]", "trainer.max_epochs=1", "hydra.run.dir=a")
    assert ended.code == 0, ended.err


def test_a_file_that_is_being_written_has_a_name_that_nobody_else_has(tmp_path: Path) -> None:
    with replaced(tmp_path / "a.json") as mine, replaced(tmp_path / "a.json") as theirs:
        assert mine != theirs
        mine.write_text("mine")
        theirs.write_text("theirs")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_text() == "mine"


def test_what_a_killed_process_left_half_written_is_removed_and_nothing_else(
    tmp_path: Path,
) -> None:
    for name in (
        ".a.json.0123abcd.part",
        ".b.json.0123abcd.part",
        ".download.part",
        "a.json",
        ".a.json.part",
    ):
        (tmp_path / name).touch()
    (tmp_path / ".board.0123abcd.part").mkdir()
    remove_parts(tmp_path, ["a.json", "board"])
    assert {path.name for path in tmp_path.iterdir()} == {
        ".b.json.0123abcd.part", ".download.part", "a.json", ".a.json.part"
    }  # fmt: skip


def test_a_folder_that_is_a_link_is_replaced_and_its_target_stays(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs/file").touch()
    (tmp_path / "board").symlink_to("theirs")
    with replaced_folder(tmp_path / "board") as folder:
        (folder / "new").touch()
    assert sorted(os.listdir(tmp_path)) == ["board", "theirs"]
    assert (os.listdir(tmp_path / "board"), os.listdir(tmp_path / "theirs")) == (["new"], ["file"])


@pytest.mark.filterwarnings("ignore")
def test_several_reports_of_a_sweep_at_once_end_well(trained_sweep: Callable[..., Path]) -> None:
    trained_sweep(*SWEEP, "seed=1,2")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(report_sweep, [FOLDER.absolute()] * 8))
    assert not [path for path in FOLDER.iterdir() if path.name.endswith(".part")]
