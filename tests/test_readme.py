"""The commands and code of the README and of docs/own.md, as they stand, on small data and for few
steps."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT, Ended

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(
    r"```(\w+)\n(.*?)```", README + (ROOT / "docs" / "own.md").read_text(), flags=re.DOTALL
)
COMMANDS = [
    shlex.split(line, comments=True)[1:]
    for language, block in BLOCKS
    if language == "bash"  # what is `sh` needs what a test has not, such as a cluster
    for line in block.replace("\\\n", "").splitlines()
    if re.match(r"python \w+\.py", line)  # of an installed trialstack: test_package.py
]
FILES = {
    block.splitlines()[0].removeprefix("# "): block
    for language, block in BLOCKS
    if block.startswith(("# au", "# c", "# f", "# s"))
}


def test_the_readme_has_commands_and_files() -> None:
    assert len(COMMANDS) > 15
    assert set(FILES) == {
        *("cnn.py", "conf/model/cnn.yaml", "stripes.py", "conf/data/stripes.yaml"),
        *("autoencoder.py", "conf/model/autoencoder.yaml"),
        *("focal.py", "conf/loss/focal.yaml"),
        *("surprise.py", "conf/metrics/surprise.yaml"),
    }


@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")
def test_every_command_runs(
    command: Callable[..., Ended], data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    for name in ("shoe.jpg", "shirt.png"):
        Image.fromarray(np.full((40, 30), 250, np.uint8)).save(tmp_path / name)
    monkeypatch.syspath_prepend(tmp_path)
    for script, *arguments in COMMANDS:
        if script == "export.py":  # with its Python example, below
            continue
        ended = command(script, *_shortened(script, arguments))
        assert ended.code == 0, f"{script} {arguments}\n{ended.err}"


def _shortened(script: str, arguments: list[str]) -> list[str]:
    """The same and, where it trains, with fewer steps."""
    if script != "train.py" or any(
        argument.startswith(("resume=", "-cd", "--")) for argument in arguments
    ):
        return arguments
    limits = ["trainer.limit_train_batches=2"]
    if "halving=successive" in arguments:  # many trials, which have the same rungs in fewer epochs
        limits += ["trainer.max_epochs=5", "data.val_size=200"]
    if not any(argument.startswith("trainer.max_epochs") for argument in arguments):
        limits.append("trainer.max_epochs=2")
    if "hydra/sweeper=optuna" in arguments:
        limits.append("hydra.sweeper.n_trials=8")
    return [*arguments, *limits]


def test_the_python_example_loads_a_checkpoint(command: Callable[..., Ended]) -> None:
    assert command("train.py", "trainer.max_epochs=1", "hydra.run.dir=outputs/runs/first").code == 0
    [example] = [
        block
        for language, block in BLOCKS
        if language == "python" and "load_from_checkpoint" in block
    ]
    scope: dict[str, Any] = {}
    exec(example, scope)
    assert scope["logits"].shape == (5, 10)
    assert len(scope["names"]) == 5


def test_the_python_example_serves_what_is_exported(command: Callable[..., Ended]) -> None:
    pytest.importorskip("onnxruntime")
    small = ("model.hidden=[8]", "trainer.max_epochs=1", "logger=none")
    assert command("train.py", *small, "hydra.run.dir=outputs/runs/first").code == 0
    exports = [arguments for script, *arguments in COMMANDS if script == "export.py"]
    assert len(exports) == 3
    for arguments in exports:
        ended = command("export.py", *arguments)
        assert ended.code == 0, ended.err
    [example] = [
        block for language, block in BLOCKS if language == "python" and "onnxruntime" in block
    ]
    assert "torch" not in example
    scope: dict[str, Any] = {}
    exec(example, scope)
    assert scope["probabilities"].sum(1) == pytest.approx(np.ones(5))
    assert set(scope["names"]) <= set("0123456789")


def test_the_python_example_trains_a_stack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    [example] = [
        block for language, block in BLOCKS if language == "python" and "train(trials)" in block
    ]
    exec(example, {})
    printed = [line for line in capsys.readouterr().out.splitlines() if "completed 0." in line]
    assert [line.split()[0] for line in printed] == ["0.3", "0.1", "0.03", "0.01"]


def test_the_python_example_sweeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pandas")
    monkeypatch.chdir(tmp_path)
    [example] = [block for language, block in BLOCKS if "trialstack.sweeps" in block]
    scope: dict[str, Any] = {}
    exec(example, scope)
    assert [result.stack_size for result in scope["swept"].results] == [4] * 4
    assert scope["folder"].parent == tmp_path / "outputs/sweeps/from-python"


def test_every_group_and_option_is_in_its_table() -> None:
    for path in (ROOT / "conf").glob("*/*.yaml"):
        if path.parent.name != "hydra":
            [row] = [
                line for line in README.splitlines() if line.startswith(f"| `{path.parent.name}` |")
            ]
            assert f"`{path.stem}`" in row
