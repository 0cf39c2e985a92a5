"""Hydra's versions: its private parts are used in one place, which works with the pre-release
too.
"""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from tests.conftest import ROOT

PRIVATE = ("hydra._internal", "hydra.core.utils")
ALLOWED = ROOT / "src/trialstack/core/hydra_internals.py"
PRERELEASE = Path(os.environ.get("HYDRA_PRERELEASE", f"{sys.prefix}/hydra-prerelease")).absolute()
SOURCES = [*ROOT.glob("*.py"), *ROOT.glob("src/**/*.py")]


def imported(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{name.name}" for name in node.names)


def test_private_parts_of_hydra_are_imported_in_one_file() -> None:
    importing = {
        file for file in SOURCES if any(name.startswith(PRIVATE) for name in imported(file))
    }
    assert importing == {ALLOWED}


@pytest.mark.commands
@pytest.mark.skipif(
    not (PRERELEASE / "hydra").is_dir(),
    reason=f"Hydra's pre-release is not in {PRERELEASE}; `make test` fetches it",
)
def test_a_sweep_runs_under_hydras_prerelease(tmp_path: Path) -> None:
    ended = subprocess.run(
        [
            sys.executable,
            ROOT / "train.py",
            "-m",
            "seed=1,2",
            "model.hidden=[]",
            "trainer.max_epochs=1",
            "sweep=next",
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{PRERELEASE}{os.pathsep}{ROOT / 'src'}"},
        capture_output=True,
        text=True,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "sweep of 2 trials in outputs/sweeps/next: 2 new" in ended.stdout
    for number in "01":
        folder = tmp_path / "outputs/sweeps/next" / number
        assert json.loads((folder / "result.json").read_text())["status"] == "completed"
        assert str(OmegaConf.load(folder / ".hydra/hydra.yaml").hydra.runtime.version).startswith(
            "1.4"
        )
