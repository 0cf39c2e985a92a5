"""The notebooks in `examples/`, their cells run as they stand, on small data and for few epochs."""

import json
from pathlib import Path
from typing import Any

import matplotlib
import pytest

from tests.conftest import ROOT
from trialstack.run.result import Result


def run(name: str) -> dict[str, Any]:
    """Run the code of a notebook; return what its names stand for at its end."""
    notebook = json.loads((ROOT / "examples" / name).read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] for cell in cells), f"{name} has outputs; clear them"
    code = "\n".join("".join(cell["source"]) for cell in cells)
    experiment = f'["experiment=article_{Path(name).stem}"]'
    assert experiment in code
    shorter = experiment.replace("]", ', "trainer.max_epochs=1"]')
    scope: dict[str, Any] = {}
    exec(compile(code.replace(experiment, shorter), name, "exec"), scope)
    return scope


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data_root: Path) -> None:
    monkeypatch.chdir(tmp_path)
    matplotlib.use("Agg")


def test_mnist(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scope = run("mnist.ipynb")
    assert scope["result"].folder == tmp_path / "outputs/runs/mnist-notebook"
    assert scope["result"].parameters == 101_770
    assert "image 4 is a " in capsys.readouterr().out


def test_fashion(tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    scope = run("fashion.ipynb")
    assert scope["result"].parameters == 266_610
    assert scope["evaluation"].metrics["test/acc"] == scope["result"].metrics["test/acc"]
    assert len(scope["predictions"]) == 3
    results: list[Result] = scope["swept"].results
    assert [result.stack_size for result in results] == [8] * 8
