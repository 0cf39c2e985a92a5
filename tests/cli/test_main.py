"""The command `trialstack`: names of commands, what shells complete, and how commands are told to
go on.
"""

import contextlib
import shlex
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from trialstack.cli import init, main
from trialstack.core.called import called


def started(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", shlex.split(line))


def test_every_script_is_a_command() -> None:
    assert {script.stem for script in ROOT.glob("*.py")} | {"init"} == set(main.COMMANDS)


@pytest.mark.parametrize("line", ["trialstack", "trialstack -h", "trialstack --help"])
def test_by_itself_it_lists_the_commands(
    line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started(line, monkeypatch)
    main.main()
    listed = [text.split()[1] for text in capsys.readouterr().out.splitlines()[2:]]
    assert listed == list(main.COMMANDS)


def test_an_unknown_command_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started("trialstack trian model=mlp300", monkeypatch)
    with pytest.raises(SystemExit, match="2"):
        main.main()
    [said] = capsys.readouterr().err.splitlines()
    assert said.startswith("trialstack has no command trian; did you mean train? there are train, ")


@pytest.mark.parametrize(
    ("line", "name", "rest"),
    [
        ("trialstack train -m seed=1,2", "train", ["-m", "seed=1,2"]),
        ("trialstack report", "report", []),
        ("trialstack trainer=ddp hydra.output_subdir=null", "train", None),  # Lightning's process
    ],
)
def test_a_command_gets_the_arguments_of_its_script(
    line: str, name: str, rest: list[str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    started(line, monkeypatch)
    assert main._taken() == name
    assert sys.argv[1:] == (shlex.split(line)[1:] if rest is None else rest)


@pytest.mark.parametrize(
    ("line", "completed"),
    [
        ("trialstack tr", list(main.COMMANDS)),  # of which shells take those that begin so
        ("trialstack train model=mlp1", ["model=mlp128"]),
        ("trialstack report swe", ["sweep="]),
        ("trialstack init ", []),
    ],
)
def test_shells_complete_commands_and_their_arguments(
    line: str,
    completed: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    started("trialstack -sc query=bash", monkeypatch)
    monkeypatch.setenv("COMP_LINE", line)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr("trialstack.cli.command.never_fail", lambda: None)
    with contextlib.suppress(SystemExit):
        main.main()
    assert capsys.readouterr().out.split() == completed


def test_commands_are_called_as_the_running_one_was(monkeypatch: pytest.MonkeyPatch) -> None:
    started("/somewhere/train.py", monkeypatch)
    assert called("train") == "python train.py"
    assert called("train", "../my clone/train.py") == "python '../my clone/train.py'"
    started("/environment/bin/trialstack", monkeypatch)
    assert called("train", "../environment/bin/trialstack") == "trialstack train"
    started("notebook", monkeypatch)
    monkeypatch.setattr("trialstack.core.called.IN_CLONE", False)
    assert called("report") == "trialstack report"


def test_a_project_is_laid_out_in_a_new_or_an_empty_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "new", tmp_path / "empty"):
        started(f"init {folder}", monkeypatch)
        init.main()
        assert capsys.readouterr().out.startswith(f"go on with: cd {folder} && trialstack train ")
        laid_out = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
        template = {path.relative_to(init.TEMPLATE) for path in init.TEMPLATE.rglob("*.*")}
        assert {path for path in template if "__pycache__" not in path.parts} == laid_out


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("init there", "a project needs a new or an empty folder, got there; name another one"),
        ("init file", "a project needs a new or an empty folder, got file; name another one"),
        ("init", "trialstack init FOLDER takes one folder, got nothing; "),
        ("init a b", "trialstack init FOLDER takes one folder, got a b; "),
    ],
)
def test_a_project_is_refused_where_something_is(
    line: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there").mkdir()
    Path("there/mine.txt").touch()
    Path("file").touch()
    started(line, monkeypatch)
    with pytest.raises(SystemExit, match="2"):
        init.main()
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(said)
    assert [path.name for path in Path("there").iterdir()] == ["mine.txt"]
