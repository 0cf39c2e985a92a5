"""An installed trialstack: the README's commands for a project of one's own, run in an environment
that has the wheel in the place of the clone.
"""

import json
import os
import re
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tests.conftest import ROOT

[COMMANDS] = [
    block
    for block in re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    if "trialstack init" in block
]


@pytest.fixture
def bin_folder(tmp_path: Path) -> Path:
    """`bin/` of a new environment with the wheel, and with this one's packages, but for the
    clone.
    """
    wheels, environment = tmp_path / "wheels", tmp_path / "environment"
    python = (sys.executable, "-m")
    build = (*python, "hatchling", "build", "--target", "wheel", "--directory", str(wheels))
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    venv.create(environment, symlinks=True)
    packages = sysconfig.get_path("purelib", "venv", {"base": str(environment)})
    # of a folder that a .pth names no .pth is read: an editable install's source is not found
    Path(packages, "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    pip = (*python, "pip", "--python", str(environment), "install", "--quiet", "--no-deps")
    subprocess.run([*pip, "--no-index", *map(str, wheels.iterdir())], check=True)
    return environment / "bin"


@pytest.mark.commands
def test_a_project_begins_with_an_installed_trialstack(bin_folder: Path, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["PATH"] = os.pathsep.join([str(bin_folder), environment["PATH"]])
    where = "from trialstack.core.configs import CONF; print(CONF.resolve())"
    ended = subprocess.run(
        ["bash", "-ec", f'python -c "{where}"\n{COMMANDS}'],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    assert Path(ended.stdout.splitlines()[0]).is_relative_to(tmp_path)
    assert "trialstack train -cd outputs/sweeps/both experiment=best" in ended.stdout
    assert "1 passed" in ended.stdout
    sweep = tmp_path / "my_project/outputs/sweeps/both"
    results = [json.loads(path.read_text()) for path in sorted(sweep.glob("*/result.json"))]
    engines = [(result["engine"], result["stack_size"], result["status"]) for result in results]
    assert engines == [("eager", 1, "completed")] * 2 + [("stacked", 2, "completed")] * 2
