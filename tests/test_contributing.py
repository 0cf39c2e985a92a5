"""What CONTRIBUTING.md says is all that it takes to add a schedule and an optimizer: a file and a
YAML each.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

BLOCKS = re.findall(
    r"```(?:python|yaml)\n# (\S+)\n(.*?)```",
    (ROOT / "CONTRIBUTING.md").read_text(),
    flags=re.DOTALL,
)


@pytest.mark.commands
def test_a_schedule_and_an_optimizer_are_a_file_and_a_yaml_each(tmp_path: Path) -> None:
    for part in ("src", "conf"):
        shutil.copytree(ROOT / part, tmp_path / part)
    shutil.copy(ROOT / "train.py", tmp_path)
    assert len(BLOCKS) == 4
    for name, content in BLOCKS:
        assert not (tmp_path / name).exists()
        (tmp_path / name).write_text(content)
    trial = (
        "schedule=linear",
        "optimizer=adadelta",
        "model.hidden=[8]",
        "trainer.max_epochs=2",
        "trainer.limit_train_batches=9",
        "logger=none",
    )
    sweep = (
        "-m",
        "sweep=s",
        "optimizer.rho=0.9,0.99",
        "engine=stacked,eager",
        "trainer.precision=64-true",
    )
    ended = subprocess.run(
        [sys.executable, "train.py", *trial, *sweep],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "src")},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    results = [
        json.loads((tmp_path / f"outputs/sweeps/s/{trial}/result.json").read_text())
        for trial in range(4)
    ]
    stacked, eager = (
        [r for r in results if r["engine"] == engine] for engine in ("stacked", "eager")
    )
    assert [result["stack_size"] for result in stacked] == [2, 2]
    for one, other in zip(stacked, eager, strict=True):
        assert one["metrics"]["train/loss"] == pytest.approx(
            other["metrics"]["train/loss"], rel=1e-6
        )
