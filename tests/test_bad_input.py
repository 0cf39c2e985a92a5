"""The user's mistakes: exit code 2 and one line with rule, value and remedy, or Hydra's short text and code 1."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.conftest import Ended

Command = Callable[..., Ended]

VALUES = [
    ("data.batch_size=0", "data.batch_size must be a whole number of at least 1, got 0; try data.batch_size=32"),
    ("data.batch_size=-3", "got -3"),
    ("data.batch_size=1.5", "got 1.5"),
    ("data.batch_size=many", "got 'many'"),
    ("data.batch_size=5000", "data.batch_size <= 1200 must hold"),
    ("data.val_size=0", "data.val_size must be a whole number of at least 1, got 0"),
    ("data.val_size=1500", "data.val_size < 1500 must hold"),
    ("data.val_size=70000", "got 70000"),
    ("data.normalize=zscore", "data.normalize must be one of unit, standard, got 'zscore'"),
    ("optimizer.lr=-0.1", "optimizer.lr must be a number of at least 0, got -0.1; try optimizer.lr=0.01"),
    ("optimizer.lr=nan", "got nan"),
    ("optimizer.lr=fast", "got 'fast'"),
    ("optimizer.lr=inf", "got inf"),
    ("optimizer.nesterov=true", "optimizer.nesterov=true needs optimizer.momentum above 0"),
    ("model.hidden=[0]", "model.hidden must be a list of whole numbers of at least 1, one a hidden layer, got [0]"),
    ("model.hidden=[-1]", "got [-1]"),
    ("model.hidden='300'", "got '300'"),
    ("model.hidden=300", "got 300; try model.hidden=[300,100]"),
    ("model.dropout=1.0", "model.dropout must be a number from 0 up to, but not including, 1, got 1.0"),
    ("model.dropout=1.5", "got 1.5; try model.dropout=0.2"),
    ("model.activation=swish", "one of relu, tanh, gelu"),
    ("model.init=magic", "got 'magic'"),
    ("model._target_=nowhere.Net", "model._target_ must name a class that can be imported, got nowhere.Net"),
    ("trainer.max_epochs=-5", "trainer.max_epochs must be a whole number of at least 1, got -5"),
    ("trainer.accelerator=quantum", "trainer.accelerator must be one of auto, cpu, gpu, cuda, mps, tpu"),
    ("trainer.devices=0", "trainer.devices must be"),
    ("trainer.precision=7", "precision"),
    ("seed=-1", "seed must be a whole number from 0 to 4294967295, got -1; try seed=1"),
    ("objective=test/acc", "objective must be one of val/acc, val/loss, train/acc, train/loss, got 'test/acc'"),
    ("trainer.limit_val_batches=0", "objective=val/acc needs validation"),
    ("trainer.limit_train_batches=0", "trainer.limit_train_batches must be above 0, got 0"),
    (
        "trainer.limit_train_batches=0.001",
        "trainer.limit_train_batches >= 0.026 must hold (one of 38 minibatches), got 0.001",
    ),
    ("engine.steps_per_execution=0", "engine.steps_per_execution must be a whole number of at least 1, got 0"),
    ("engine.name=turbo", "engine.name must be one of auto, stacked, eager, got 'turbo'"),
    ("resume=nowhere", "run folder nowhere does not exist"),
    ("schedule.warmup_epochs=50", "schedule.warmup_epochs < 1 must hold (trainer.max_epochs), got 50"),
    ("data.augment=crop", "data.augment must be a list of transforms, each with a _target_, got 'crop'"),
    ("data.augment=[{_target_: torchvision.transforms.v2.RandomCrop, size: 24}]", "must keep the images [1, 28, 28]"),
    (
        "data.augment=[{_target_: torchvision.transforms.v2.Magic}]",
        "data.augment[0]._target_ must name a class that can be imported",
    ),
    ("model={_target_: torch.nn.Flatten}", "torch.nn.Flatten cannot be made of these arguments"),
    (
        "+logger.x._target_=lightning.pytorch.loggers.CSVLogger",
        "logger.x: lightning.pytorch.loggers.CSVLogger cannot be made of these arguments",
    ),
    ("+callbacks.x._target_=nowhere.Callback", "callbacks.x._target_ must name a class that can be imported"),
    ("optimizer._target_=torch.nn.Linear", "must name a subclass of torch.optim.optimizer.Optimizer"),
    ("+optimizer.speed=3", "unexpected keyword argument 'speed'"),
    ("data.val_size=???", "data.val_size has no value"),
]


@pytest.mark.parametrize(("override", "message"), VALUES)
def test_a_bad_value_is_one_line_and_exit_code_2(override: str, message: str, command: Command) -> None:
    ended = command("train.py", override, "trainer.max_epochs=1" if "max_epochs" not in override else "test=false")
    assert ended.code == 2, ended.err
    assert message in ended.err
    assert len(ended.err.splitlines()) == 1, ended.err


def test_a_bad_value_leaves_no_folder(command: Command) -> None:
    assert command("train.py", "optimizer.lr=fast").code == 2
    assert not Path("outputs").exists()


MODELS = """
from torch import nn

class Narrow(nn.Linear):
    def __init__(self, image_shape, num_classes):
        super().__init__(5, num_classes)

class Headless(nn.Flatten):
    def __init__(self, image_shape, num_classes):
        super().__init__()
"""


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("Narrow", "model: nets.Narrow does not take images [2, 1, 28, 28]: "),
        ("Headless", "model: nets.Headless must give logits [2, 10], got [2, 784]"),
    ],
)
def test_a_model_that_does_not_fit_the_data(
    model: str, message: str, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nets.py").write_text(MODELS)
    (tmp_path / "myconf/model").mkdir(parents=True)
    (tmp_path / "myconf/model/mine.yaml").write_text(f"_target_: nets.{model}")
    monkeypatch.syspath_prepend(tmp_path)
    ended = command("train.py", "--config-dir", "myconf", "model=mine")
    assert (ended.code, len(ended.err.splitlines())) == (2, 1), ended.err
    assert message in ended.err


def test_a_config_file_that_is_no_yaml(command: Command) -> None:
    Path("myconf/model").mkdir(parents=True)
    Path("myconf/model/mine.yaml").write_text("hidden: [300")
    ended = command("train.py", "--config-dir", "myconf", "model=mine")
    assert (ended.code, len(ended.err.splitlines())) == (2, 1), ended.err
    assert "a config file is not YAML" in ended.err
    assert "mine.yaml" in ended.err


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer=gpu", "trainer.accelerator=gpu needs a GPU that torch can use, found none; try trainer=cpu"),
        ("trainer.devices=1000", "trainer.devices <= "),
    ],
)
def test_devices_that_are_not_there(override: str, message: str, command: Command) -> None:
    ended = command("train.py", override)
    assert (ended.code, len(ended.err.splitlines())) == (2, 1), ended.err
    assert message in ended.err


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("model=mlp200", ("mlp128", "mlp300")),
        ("optimizer.lrr=1", ("optimizer.lrr", "Did you mean 'optimizer.lr'?", "momentum", "weight_decay")),
        ("bach=3", ("bach", "seed", "objective", "data")),
        ("optimizer.lr=[", ("no viable alternative", "override_grammar")),
    ],
)
def test_hydras_own_errors_are_short_list_what_there_is_and_end_with_1(
    override: str, parts: tuple[str, ...], command: Command
) -> None:
    ended = command("train.py", override)
    assert ended.code == 1
    assert all(part in ended.err for part in parts), ended.err
    assert len(ended.err.splitlines()) <= 12
    assert "Traceback" not in ended.err


def test_a_full_error_shows_the_traceback(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trialstack.cli._FULL_ERROR", "1")
    ended = command("train.py", "seed=-1")
    assert ended.code == 2
    assert "Traceback" in ended.err
    assert ended.err.splitlines()[-1].startswith("seed must be")


@pytest.mark.parametrize("blocked", ["outputs", "outputs/runs"])
def test_outputs_that_cannot_be_written(blocked: str, command: Command) -> None:
    Path(blocked).parent.mkdir(exist_ok=True)
    Path(blocked).write_text("a file")
    ended = command("train.py")
    assert (ended.code, len(ended.err.splitlines())) == (2, 1), ended.err
    assert f"cannot write {blocked}" in ended.err
    assert "hydra.run.dir=FOLDER" in ended.err


def test_a_dataset_that_is_nowhere_is_one_line(command: Command, data_root: Path) -> None:
    ended = command("train.py", "data=fashion", "data.root=nowhere")
    assert ended.code == 2
    message = ended.err.splitlines()[-1]
    for part in ("Fashion-MNIST is not in nowhere/FashionMNIST/raw", "t10k-labels-idx1-ubyte", "data=digits"):
        assert part in message


@pytest.fixture
def run(trained_run: Callable[..., Path]) -> Path:
    return trained_run("model.hidden=[8]", "trainer.max_epochs=1")


COMMANDS = [("train.py", "resume="), ("evaluate.py", "run="), ("predict.py", "run=")]


@pytest.mark.parametrize(("script", "key"), COMMANDS)
def test_a_folder_that_is_no_run(script: str, key: str, command: Command) -> None:
    extra = ["index=[0]"] if script == "predict.py" else []
    Path("file").write_text("no folder")
    Path("empty").mkdir()
    Path("broken/.hydra").mkdir(parents=True)
    Path("broken/.hydra/config.yaml").write_text("{")
    Path("foreign/.hydra").mkdir(parents=True)
    Path("foreign/.hydra/config.yaml").write_text("db: mysql")
    for folder, message in (
        ("nowhere", "run folder nowhere does not exist"),
        ("file", "a run folder is needed, got the file file"),
        ("empty", "empty is no run folder"),
        ("broken", "broken/.hydra/config.yaml cannot be read"),
        ("foreign", "foreign/.hydra/config.yaml is not the config of a run of trialstack"),
    ):
        ended = command(script, f"{key}{folder}", *extra)
        assert (ended.code, len(ended.err.splitlines())) == (2, 1), ended.err
        assert message in ended.err


@pytest.mark.parametrize(("script", "key"), COMMANDS)
def test_a_corrupt_or_foreign_checkpoint(script: str, key: str, command: Command, run: Path) -> None:
    extra = ["index=[0]"] if script == "predict.py" else []
    checkpoint = run / "checkpoints" / ("last.ckpt" if script == "train.py" else "best.ckpt")
    whole = checkpoint.read_bytes()
    for content, message in (
        (whole[: len(whole) // 2], "is damaged or no checkpoint"),
        (b"", "is damaged"),
        (None, ""),
    ):
        if content is None:
            torch.save({"state_dict": {}, "hyper_parameters": {"layers": 3}}, checkpoint)
            message = "was not written by trialstack"
        else:
            checkpoint.write_bytes(content)
        ended = command(script, f"{key}{run}", *extra)
        assert ended.code == 2, ended.err
        assert message in ended.err.splitlines()[-1]
        assert "Traceback" not in ended.err


def test_a_checkpoint_cannot_run_code(command: Command, run: Path) -> None:
    checkpoint = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    checkpoint["hyper_parameters"]["model"] = {"_target_": "subprocess.Popen", "args": ["touch", "pwned"]}
    torch.save(checkpoint, run / "checkpoints" / "best.ckpt")
    ended = command("evaluate.py", f"run={run}")
    assert (ended.code, Path("pwned").exists()) == (2, False)
    assert "must name a subclass of torch.nn.modules.module.Module" in ended.err


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.batch_size=64", "of which only trainer.* can change, got data.batch_size=64"),
        ("model=mlp128", "got model=mlp128"),
        ("~schedule", "got ~schedule"),
    ],
)
def test_resume_does_not_change_the_run(override: str, message: str, command: Command, run: Path) -> None:
    ended = command("train.py", f"resume={run}", override)
    assert (ended.code, len(ended.err.splitlines())) == (2, 1), ended.err
    assert message in ended.err


def test_a_schedule_that_was_laid_out_cannot_be_lengthened(command: Command) -> None:
    assert command("train.py", "schedule=cosine", "trainer.max_epochs=1", "hydra.run.dir=a").code == 0
    ended = command("train.py", "resume=a", "trainer.max_epochs=2")
    assert ended.code == 2
    assert "schedule=cosine is laid out for trainer.max_epochs=1, got 2" in ended.err


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["index=[297]"], "index < 297 must hold (the test set), got 297"),
        (["index=[-1]"], "index must be a list of sample numbers from 0, got [-1]"),
        (["index=3"], "got 3; try index=[0,1,2]"),
        ([], "either index=[0,1,2] or images=[a.png,...] is needed, got neither"),
        (["index=[0]", "images=[a.png]"], "got both"),
        (["images=[nowhere.png]"], "image nowhere.png does not exist"),
        (["images=[run/result.json]"], "run/result.json is no image that can be read"),
        (["images=[run]"], "run is no image"),
        (["index=[0]", "output=labels.txt"], "output must be a file that ends in .csv or .json"),
        (["index=[0]", "output=run/result.json/labels.csv"], "cannot write output=run/result.json/labels.csv"),
        (["index=[0]", "accelerator=tpu"], "accelerator must be one of auto, cpu, gpu"),
        (["index=[0]", "invert=maybe"], "invert must be true, false or auto, got 'maybe'"),
    ],
)
def test_predict_says_what_is_wrong(overrides: list[str], message: str, command: Command, run: Path) -> None:
    ended = command("predict.py", f"run={run}", *overrides)
    assert (ended.code, len(ended.err.splitlines())) == (2, 1), ended.err
    assert message in ended.err


def test_a_run_must_be_named(command: Command) -> None:
    ended = command("evaluate.py")
    assert (ended.code, len(ended.err.splitlines())) == (2, 1)
    assert "run=FOLDER is needed" in ended.err


def test_data_that_is_gone_is_reported_by_evaluate(command: Command, data_root: Path) -> None:
    assert command("train.py", "data=mnist", "trainer.max_epochs=1", "hydra.run.dir=run").code == 0
    shutil.rmtree(data_root)
    ended = command("evaluate.py", "run=run")
    assert ended.code == 2
    assert "MNIST is not in" in ended.err.splitlines()[-1]
