"""What the config of a run folder that came from elsewhere can make, and that nothing else in it is
run or imported.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping
from lightning.pytorch.loggers import Logger
from omegaconf import OmegaConf
from torch import Tensor, nn
from torchvision.transforms import v2

from tests.conftest import Ended
from trialstack.core.build import build, build_all, check_all
from trialstack.core.errors import UserError
from trialstack.data.augmentation import build_transforms

Command = Callable[..., Ended]
QUICK = (
    "model.hidden=[4]",
    "trainer.limit_train_batches=2",
    "trainer.max_epochs=1",
    "callbacks=none",
    "logger=none",
)


class Inverted:
    """A transform of the user's own, with a class of the standard library in reach."""

    process = subprocess.Popen

    def __call__(self, image: Tensor) -> Tensor:
        return 1 - image


class Plain:
    """Not callable."""


def function() -> Callback:
    return EarlyStopping("val/acc")


HOSTILE: list[Any] = [
    {"_target_": "torch.load", "f": "pwned"},
    {"_target_": "torch.hub.load", "repo_or_dir": "pwned"},
    {"_target_": "builtins.open", "file": "pwned", "mode": "w"},
    {"_target_": "builtins.eval", "_args_": ["open('pwned', 'w')"]},
    {"_target_": "os.system", "command": "touch pwned"},
    {"_target_": "shutil.copyfile", "src": "/etc/hostname", "dst": "pwned"},
    {"_target_": "subprocess.Popen", "args": ["touch", "pwned"]},
    {"_target_": "subprocess.check_call", "_args_": [["touch", "pwned"]]},
    {"_target_": "logging.FileHandler", "filename": "pwned"},
    {"_target_": "sqlite3.connect", "database": "pwned"},
    {"_target_": "sqlite3.Connection", "database": "pwned"},
    {"_target_": "zipfile.ZipFile", "file": "pwned", "mode": "w"},
    {"_target_": "functools.partial"},
    {"_target_": "pathlib.Path.touch", "self": "pwned"},
    {
        "_target_": "hydra.utils.instantiate",
        "config": {"_target_": "builtins.open", "file": "pwned", "mode": "w"},
    },
    {"_target_": "hydra.utils.get_method", "path": "os.system"},
    {"_target_": "tests.core.test_foreign_config.function"},
    {"_target_": "tests.core.test_foreign_config.Plain"},
    {"_target_": "tests.core.test_foreign_config.Inverted.process", "args": ["touch", "pwned"]},
    {"_target_": "tests.core.test_foreign_config.subprocess.Popen", "args": ["touch", "pwned"]},
    {"_target_": "torch.utils.data.TensorDataset"},
    {"_target_": None},
    {},
    "builtins.open",
    None,
]
MAKERS: list[Callable[[Any], Any]] = [
    lambda config: build_all("callbacks", {"x": config}, Callback),
    lambda config: check_all("logger", {"x": config}, Logger),
    lambda config: build_transforms([config]),
    lambda config: (
        build_transforms(
            [{"_target_": "torchvision.transforms.v2.RandomApply", "transforms": [config]}]
        )
        if isinstance(config, dict) and "_target_" in config
        else build_transforms([config])
    ),
    lambda config: build("model", config, nn.Module),
    lambda config: build("optimizer", config, torch.optim.Optimizer),
]


@pytest.mark.parametrize(
    "make", MAKERS, ids=["callbacks", "logger", "augment", "nested", "model", "optimizer"]
)
@pytest.mark.parametrize("config", HOSTILE, ids=str)
def test_what_is_not_of_the_kind_is_refused_in_one_line(
    config: Any, make: Callable[[Any], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as refused:
        make(config)
    assert len(str(refused.value).splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("key", ["_args_", "_partial_", "_recursive_", "_convert_"])
def test_hydras_other_special_keys_are_refused(key: str) -> None:
    for group, make in (
        ("callbacks.x", lambda config: build_all("callbacks", {"x": config}, Callback)),
        ("data.augment[0]", lambda config: build_transforms([config])),
    ):
        with pytest.raises(UserError, match=rf"{key}; leave it out") as refused:
            make(
                {
                    "_target_": "lightning.pytorch.callbacks.EarlyStopping",
                    "monitor": "val/acc",
                    key: True,
                }
            )
        assert str(refused.value).startswith(group)


def test_a_callback_has_plain_values_as_arguments() -> None:
    nested = {
        "_target_": "lightning.pytorch.callbacks.EarlyStopping",
        "monitor": [{"_target_": "os.getcwd"}],
    }
    with pytest.raises(
        UserError,
        match=r"callbacks\.x\.monitor\[0\] must be a plain value, got _target_=os\.getcwd",
    ):
        build_all("callbacks", {"x": nested}, Callback)


def test_a_models_nested_targets_are_plain_values() -> None:
    built = build(
        "model",
        {"_target_": "tests.core.test_foreign_config.Keeps", "inner": {"_target_": "os.getcwd"}},
        nn.Module,
    )
    assert built.inner == {"_target_": "os.getcwd"}


class Keeps(nn.Module):
    """Shows its argument."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner


def test_transforms_are_torchvisions_modules_and_ones_own_in_any_depth() -> None:
    flip = {"_target_": "torchvision.transforms.v2.RandomHorizontalFlip", "p": 1.0}
    older = {"_target_": "torchvision.transforms.RandomApply", "transforms": [flip], "p": 1.0}
    choice = {"_target_": "torchvision.transforms.v2.RandomChoice", "transforms": [older]}
    own = {"_target_": "tests.core.test_foreign_config.Inverted"}
    transforms = build_transforms([choice, own, {"_target_": "torch.nn.Identity"}])
    image = torch.arange(4.0).view(1, 2, 2)
    assert torch.equal(v2.Compose(transforms)(image), 1 - image.flip(-1))


MODULE = (
    "from pathlib import Path\nfrom torch import nn\nPath('pwned').touch()\nclass "
    "Net(nn.Identity): pass\n"
)


@pytest.mark.parametrize(
    ("files", "target"),
    [
        (["outputs/evil.py"], "outputs.evil.Net"),
        (["outputs/run-1/evil.py"], "outputs.run-1.evil.Net"),
        (["run/__init__.py", "run/.hydra/config.yaml"], "run.Net"),
        (["run/__init__.py", "run/evil.py", "run/.hydra/config.yaml"], "run.evil.Net"),
        (["sweep/__init__.py", "sweep/evil.py", "sweep/0/.hydra/config.yaml"], "sweep.evil.Net"),
        (
            ["own/__init__.txt", "own/sweep/__init__.py", "own/sweep/0/.hydra/config.yaml"],
            "own.sweep.Net",
        ),
    ],
)
def test_code_in_a_folder_with_runs_is_not_imported(
    files: list[str], target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for file in files:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).write_text(MODULE)
    with pytest.raises(UserError, match=r"has runs in it|has no __init__\.py"):
        build("model", {"_target_": target}, nn.Module)
    assert not Path("pwned").exists()


def test_a_module_of_the_standard_library_is_not_imported() -> None:
    for module in ("antigravity", "this", "test.autotest", "idlelib.idle"):
        with pytest.raises(
            UserError, match=rf"{module.partition('.')[0]}[\w.]* is of the standard library"
        ):
            build("model", {"_target_": f"{module}.Net"}, nn.Module)
        assert module not in sys.modules


@pytest.mark.parametrize("file", ["mynets.py", "mypackage/nets.py"])
def test_ones_own_modules_and_packages_are_imported(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path(file).parent.mkdir(exist_ok=True)
    (Path(file).parent / "__init__.py").touch()
    Path(file).write_text(MODULE)
    target = file.removesuffix(".py").replace("/", ".")
    assert type(build("model", {"_target_": f"{target}.Net"}, nn.Module)).__name__ == "Net"


HOSTILE_PARTS = {
    "callbacks": {"x": {"_target_": "builtins.open", "file": "pwned", "mode": "w"}},
    "logger": {"x": {"_target_": "logging.FileHandler", "filename": "pwned"}},
    "data.augment": [{"_target_": "shutil.copyfile", "src": "/etc/hostname", "dst": "pwned"}],
    "trainer.callbacks": [{"_target_": "builtins.open", "file": "pwned", "mode": "w"}],
    "trainer.logger": {"_target_": "logging.FileHandler", "filename": "pwned"},
    "trainer.plugins": [{"_target_": "builtins.open", "file": "pwned", "mode": "w"}],
    "trainer.profiler": {
        "_target_": "lightning.pytorch.profilers.AdvancedProfiler",
        "dirpath": "pwned",
    },
    "trainer.strategy": {"_target_": "builtins.open", "file": "pwned", "mode": "w"},
    "trainer.default_root_dir": "pwned",
    "model.hidden": [{"_target_": "os.system", "command": "touch pwned"}],
    "optimizer.lr": {"_target_": "os.system", "command": "touch pwned"},
}


@pytest.mark.parametrize("key", HOSTILE_PARTS)
def test_a_foreign_run_folders_config_makes_nothing_else(
    key: str, trained_run: Callable[..., Path], command: Command
) -> None:
    config = OmegaConf.load(trained_run(*QUICK) / ".hydra/config.yaml")
    OmegaConf.update(config, key, HOSTILE_PARTS[key], merge=False, force_add=True)
    OmegaConf.save(config, "run/.hydra/config.yaml")
    for script, argument in (("train.py", "resume=run"), ("verify.py", "trial=run")):
        ended = command(
            script, argument, *(["trainer.max_epochs=2"] if script == "train.py" else [])
        )
        ignored = script == "verify.py" and key == "logger"
        assert ended.code == (0 if ignored else 2), (script, ended)
        assert ignored or len(ended.err.splitlines()) == 1, ended.err
        assert not Path("pwned").exists()


def test_a_sweep_checks_the_loggers_of_all_trials_before_the_first_one_trains(
    command: Command,
) -> None:
    ended = command(
        "train.py",
        "-m",
        *QUICK[:4],
        "seed=1,2",
        "+logger.x._target_=logging.FileHandler",
        "sweep=s",
    )
    assert ended.code == 2, ended.err
    assert (
        "must name a subclass of lightning.pytorch.loggers.logger.Logger, got logging.FileHandler"
        in ended.err
    )
    assert not Path("outputs/sweeps/s/0/metrics.csv").exists()
