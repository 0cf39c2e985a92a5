"""Commands run in this process, small datasets, and trials that take a second."""

import os
import sys

os.environ["OMP_NUM_THREADS"] = (
    "1"  # two workers with two threads each on two cores would wait for each other
)
if "gpu" not in sys.argv:  # `-m gpu`: all other tests are of the CPU
    os.environ["CUDA_VISIBLE_DEVICES"] = ""

import gc
import gzip
import hashlib
import runpy
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.plugins import Plugins

from tests.forked import Forked
from tests.signals import handlers_restored
from trialstack.core.parse import parse, resolved
from trialstack.data.datamodule import MNIST, FashionMNIST
from trialstack.run.trial import Trial

ROOT = Path(__file__).parent.parent

# autograd decides at its first use whether it starts threads, after which forks cannot use it:
# before fake CUDA tensors have it believe in a GPU
torch.zeros((), requires_grad=True).backward()

Plugins.instance()  # loaded before a test puts Hydra's state back to where it began

# slow, and the same for tests: YAML in Python, and waiting for the disk, which only a failure of
# the power would show
yaml.SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
os.fsync = lambda fd: None


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--every-crash-point", action="store_true", help="all of them, not one in 48: 20 minutes"
    )


COMMANDS = {"command", "fork", "trained_run", "trained_sweep", "equals_whole"}
"""Fixtures that start commands."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # the longest begin first, so that no worker is left with one when the others have ended
    items.sort(key=lambda item: item.path.parent != ROOT / "tests")
    for item in items:
        if COMMANDS & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.commands)


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()  # what is imported is no garbage: each stack ends with a search for some


def pytest_sessionfinish() -> None:
    gc.unfreeze()


@dataclass
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., Ended]:
    """Run a script of the project as `python SCRIPT ARGUMENTS` would, in an empty folder and in
    this process.
    """
    monkeypatch.chdir(tmp_path)

    def run(script: str, *arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", [str(ROOT / script), *arguments])
        capfd.readouterr()
        code = 0
        streams = sys.stdout, sys.stderr
        try:
            with handlers_restored():
                runpy.run_path(str(ROOT / script), run_name="__main__")
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        finally:
            sys.stdout.flush()
            sys.stdout, sys.stderr = streams
            os.environ.pop("HYDRA_FULL_ERROR", None)
        return Ended(code, *capfd.readouterr())

    return run


@pytest.fixture
def fork(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Forked]:
    """Start a script of the project in a fork of this process, in an empty folder."""
    return lambda script, *arguments: Forked(
        ROOT / script, arguments, tmp_path, tmp_path_factory.mktemp("said")
    )


@pytest.fixture
def trained_run(
    command: Callable[..., Ended], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """Return `run/`, as `python train.py OVERRIDES` leaves it; what was trained already is
    copied.
    """
    return lambda *overrides: _trained(
        Path("run"), (*overrides, "hydra.run.dir=run"), command, tmp_path_factory
    )


@pytest.fixture
def trained_sweep(
    command: Callable[..., Ended], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """Return `outputs/sweeps/s/`, as `python train.py ARGUMENTS` leaves it, which name the sweep
    `s`; what was trained already is copied.
    """
    return lambda *arguments: _trained(
        Path("outputs/sweeps/s"), arguments, command, tmp_path_factory
    )


def _trained(
    folder: Path,
    arguments: tuple[str, ...],
    command: Callable[..., Ended],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    name = hashlib.sha256(repr(arguments).encode()).hexdigest()
    kept = tmp_path_factory.getbasetemp() / name
    if not kept.exists():
        ended = command("train.py", *arguments)
        assert ended.code == 0, ended.err
        shutil.copytree(folder, kept)
    return Path(shutil.copytree(kept, folder, dirs_exist_ok=True))


def composed(folder: Path, *overrides: str) -> Trial:
    """Compose a trial that writes to `folder`, without a progress bar, loggers or pictures."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose("train", ["callbacks=none", "logger=none", f"folder={folder}", *overrides])
    folder.mkdir(parents=True, exist_ok=True)
    return Trial(parse(resolved(config)), folder, pictured=False)


def longer(trial: Trial, epochs: int) -> Trial:
    """Return a trial with another number of epochs."""
    trainer = {**trial.config.trainer.values, "max_epochs": epochs}
    return replace(trial, config=parse({**trial.config.values, "trainer": trainer}))


def idx_bytes(array: np.ndarray) -> bytes:
    """Return a uint8 array as an IDX file."""
    return (
        bytes([0, 0, 8, array.ndim])
        + np.array(array.shape, ">u4").tobytes()
        + array.astype(np.uint8).tobytes()
    )


def idx_files(train: int = 5200, test: int = 60) -> dict[str, bytes]:
    """Return a dataset of 28x28 images whose class shows as a bright row, by file name."""
    files = {}
    for part, size in (("train", train), ("t10k", test)):
        labels = np.arange(size) % 10
        images = np.random.default_rng(size).integers(0, 100, (size, 28, 28))
        images[np.arange(size), 2 * labels + 4] = 255
        files[f"{part}-images-idx3-ubyte"] = idx_bytes(images)
        files[f"{part}-labels-idx1-ubyte"] = idx_bytes(labels)
    return files


def md5s(files: dict[str, bytes]) -> dict[str, str]:
    return {name: hashlib.md5(content).hexdigest() for name, content in files.items()}


@pytest.fixture
def data_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small MNIST (gzipped) and Fashion-MNIST in DATA_ROOT, with mirrors that do not exist."""
    files = idx_files()
    root = tmp_path / "datasets"
    for dataset, ending in ((MNIST, ".gz"), (FashionMNIST, "")):
        monkeypatch.setattr(dataset, "md5", md5s(files))
        monkeypatch.setattr(dataset.source, "mirrors", ["http://127.0.0.1:9/"])
        raw = root / dataset.source.__name__ / "raw"
        raw.mkdir(parents=True)
        for name, content in files.items():
            (raw / f"{name}{ending}").write_bytes(gzip.compress(content) if ending else content)
    monkeypatch.setenv("DATA_ROOT", str(root))
    return root
