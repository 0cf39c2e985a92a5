"""The user's mistakes: exit code 2 and one line with rule, value and remedy, or Hydra's short text
and code 1.
"""

import inspect
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import get_class
from lightning.pytorch import Trainer

from tests.conftest import Ended, composed
from trialstack.core.errors import UserError
from trialstack.core.groups import INITIALIZERS, PRECISIONS, TrainerConfig
from trialstack.core.sizes import DATASETS
from trialstack.data.datamodule import Digits
from trialstack.run.trial import compose_trial

Command = Callable[..., Ended]

WATCH = "callbacks.early_stopping.monitor=val/loss"

VALUES = [
    (
        "data.batch_size=0",
        "data.batch_size must be a whole number of at least 1, got 0; try data.batch_size=32",
    ),
    ("data.batch_size=-3", "got -3"),
    ("data.batch_size=1.5", "got 1.5"),
    ("data.batch_size=many", "got 'many'"),
    ("data.batch_size=5000", "data.batch_size <= 1200 must hold"),
    (
        "loss.class_weights=[1,2]",
        "loss.class_weights must have 10 numbers, one a class of Digits, got 2; try "
        "loss.class_weights=balanced",
    ),
    ("loss.class_weights=equal", "or balanced, or null, got 'equal'"),
    ("loss.label_smoothing=1", "got 1; try loss.label_smoothing=0.1"),
    ("loss._target_=torch.nn.NoLoss", "loss._target_ must name a class that can be imported"),
    (
        "+metrics.acc={_target_:torchmetrics.classification.MulticlassF1Score}",
        "metrics.acc must be another name of letters, digits and _",
    ),
    ("data.val_size=0", "data.val_size must be a whole number of at least 1, got 0"),
    ("data.val_size=1500", "data.val_size < 1500 must hold"),
    ("data.val_size=70000", "got 70000"),
    ("data.normalize=zscore", "data.normalize must be one of unit, standard, got 'zscore'"),
    (
        "optimizer.lr=-0.1",
        "optimizer.lr must be a number of at least 0, got -0.1; try optimizer.lr=0.01",
    ),
    ("optimizer.lr=nan", "got nan"),
    ("optimizer.lr=fast", "got 'fast'"),
    ("optimizer.lr=inf", "got inf"),
    ("optimizer.nesterov=true", "optimizer.nesterov=true needs optimizer.momentum above 0"),
    (
        "model.hidden=[0]",
        "model.hidden must be a list of whole numbers of at least 1, one a hidden layer, got [0]",
    ),
    ("model.hidden=[-1]", "got [-1]"),
    ("model.hidden='300'", "got '300'"),
    ("model.hidden=300", "got 300; try model.hidden=[300,100]"),
    (
        "model.dropout=1.0",
        "model.dropout must be a number from 0 up to, but not including, 1, got 1.0",
    ),
    ("model.dropout=1.5", "got 1.5; try model.dropout=0.2"),
    ("model.activation=swish", "one of relu, tanh, gelu"),
    ("model.init=magic", "got 'magic'"),
    (
        "model._target_=nowhere.Net",
        "model._target_ must name a class that can be imported, got nowhere.Net",
    ),
    ("trainer.max_epochs=-5", "trainer.max_epochs must be a whole number of at least 1, got -5"),
    (
        "trainer.accelerator=quantum",
        "trainer.accelerator must be one of auto, cpu, gpu, cuda, mps, got",
    ),
    ("trainer.devices=0", "trainer.devices must be"),
    ("trainer.precision=7", "precision"),
    ("seed=-1", "seed must be a whole number from 0 to 4294967295, got -1; try seed=1"),
    (
        "objective=test/acc",
        "objective must be the name of a metric of training or validation, got 'test/acc'",
    ),
    ("objective=val/f1", "objective must be one of val/acc, val/loss, train/acc, train/loss, got"),
    ("trainer.limit_val_batches=0", "objective=val/acc needs validation"),
    ("trainer.limit_train_batches=0", "trainer.limit_train_batches must be above 0, got 0"),
    (
        "trainer.limit_train_batches=0.001",
        "trainer.limit_train_batches >= 0.026 must hold (one of 38 minibatches), got 0.001",
    ),
    (
        "engine.steps_per_execution=0",
        "engine.steps_per_execution must be a whole number of at least 1, got 0",
    ),
    ("engine.name=turbo", "engine.name must be one of auto, stacked, eager, got 'turbo'"),
    ("resume=nowhere", "run folder nowhere does not exist"),
    (
        "schedule.warmup_epochs=50",
        "schedule.warmup_epochs < 1 must hold (trainer.max_epochs), got 50",
    ),
    (
        "data.augment=crop",
        "data.augment must be a list of transforms, each with a _target_, got 'crop'",
    ),
    (
        "data.augment=[{_target_: torchvision.transforms.v2.RandomCrop, size: 24}]",
        "must keep the images [1, 28, 28]",
    ),
    (
        "data.augment=[{_target_: torchvision.transforms.v2.Magic}]",
        "data.augment[0]._target_ must name a class that can be imported",
    ),
    (
        "model={_target_: torch.nn.Flatten}",
        "torch.nn.Flatten does not take model.hidden, got [300, 100]",
    ),
    (
        "+logger.x._target_=lightning.pytorch.loggers.CSVLogger",
        "logger.x: lightning.pytorch.loggers.CSVLogger cannot be made of these arguments",
    ),
    (
        "+callbacks.x._target_=nowhere.Callback",
        "callbacks.x._target_ must name a class that can be imported",
    ),
    (
        "optimizer._target_=torch.nn.Linear",
        "must name a subclass of torch.optim.optimizer.Optimizer",
    ),
    ("data.val_size=???", "data.val_size has no value"),
    ("logger=null", "logger must be the name of an option, got logger=null; try logger=none"),
    ("data=null", "data must be the name of an option, got data=null; try data=digits"),
    ("callbacks=true", "got callbacks=true; try callbacks=none"),
    ("~data", "data must be a group of keys, got None; try data=digits"),
    ("~logger", "try logger=none"),
    ("~seed", "seed must be a whole number from 0 to 4294967295, got none; try seed=1"),
    ("~trainer.devices", "trainer.devices must be a whole number of at least 1"),
    ("~model.hidden", "got none; try model.hidden=[300,100]"),
    ("folder=X", "folder must be ${hydra:runtime.output_dir}, got 'X'; try hydra.run.dir=X"),
    (
        "callbacks.progress=null",
        "callbacks.progress must have a _target_, the name of a class, got None",
    ),
    (
        "+callbacks.early_stopping={_target_:lightning.pytorch.callbacks.EarlyStopping,monitor:val_loss}",
        "got 'val_loss'",
    ),
    (
        "+callbacks.x={_target_:lightning.pytorch.callbacks.EarlyStopping,monitor:lr,patience:-1}",
        "x.patience must be",
    ),
    (
        "trainer.limit_val_batches=0.5",
        "trainer.limit_val_batches >= 1 must hold (one of 1 minibatches), got 0.5",
    ),
    ("+trainer.overfit_batches=0.001", "trainer.overfit_batches >= 1 must hold"),
    (
        "+trainer.val_check_interval=39",
        "trainer.val_check_interval <= 38 must hold (minibatches of an epoch), got 39",
    ),
    (
        "+trainer.val_check_interval=0",
        "trainer.val_check_interval must be a whole number of minibatches of at least 1",
    ),
    (
        "+trainer.accumulate_grad_batches=0",
        "trainer.accumulate_grad_batches must be a whole number of at least 1",
    ),
    ("+trainer.min_epochs=5", "trainer.min_epochs <= 1 must hold (trainer.max_epochs), got 5"),
    (
        "+trainer.logger=false",
        "trainer.logger is for trialstack to say, got False; try logger=none",
    ),
    ("+trainer.profiler=nonsense", "profiler"),
    ("trainer.strategy=nonsense", "invalid strategy name"),
    (
        "trainer.deterministic=maybe",
        "trainer.deterministic must be true, false or warn, got 'maybe'",
    ),
    (
        "trainer.accelerator=tpu",
        "trainer.accelerator must be one of auto, cpu, gpu, cuda, mps, got 'tpu'",
    ),
    (
        "trainer.check_val_every_n_epoch=5",
        "trainer.check_val_every_n_epoch <= 1 must hold (trainer.max_epochs)",
    ),
    (
        "trainer.max_time=60",
        "trainer.max_time must be a time above 0 as DD:HH:MM:SS, or null, got 60",
    ),
    ("trainer.max_time='00:00:00:00'", "got '00:00:00:00'; try trainer.max_time=00:01:00:00"),
    ("trainer.max_time={minutes:0}", "got {'minutes': 0}"),
    (
        "optimizer.lr=1e308",
        "(float32 holds sizes from 1.2e-38 to 3.4e38), got 1e+308; try optimizer.lr=0.01",
    ),
    (f"optimizer.lr={'9' * 400}", "9999... (400 characters); try optimizer.lr=0.01"),
    ("optimizer.momentum=1e308", "optimizer.momentum must be a number from 0 to 1"),
    ("optimizer._target_=null", "optimizer._target_ must be the dotted name of a class, got None"),
    ("optimizer._target_=torch.optim", "must name a class that can be imported, got torch.optim"),
    ("+optimizer.maximize=maybe", "optimizer.maximize must be true or false, got 'maybe'"),
    ("+optimizer={foreach:true,fused:true}", "`fused` and `foreach` cannot be `True` together"),
    ("engine.steps_per_execution=10000000000000000000000", "(64 bits hold up to 9.2e18)"),
    (
        "schedule.name=cosine",
        "schedule.name=cosine needs schedule.eta_min, got none; try schedule=cosine",
    ),
    (
        "schedule.name=step",
        "schedule.name=step needs schedule.step_size, got none; try schedule=step",
    ),
    (
        "schedule.name=onecycle",
        "schedule.name=onecycle needs schedule.max_lr, got none; try schedule=onecycle",
    ),
    (
        "data._target_=trialstack.data.ImageDataModule",
        "must name a dataset with dataset, class_names",
    ),
    (
        "model.hidden=[1000000000000]",
        "has 7.95e+14 parameters: they and a checkpoint take 5.92e+06 GiB",
    ),
    (
        f"model.hidden={[2] * 1001}".replace(" ", ""),
        "model.hidden must have at most 1000 layers, got 1001",
    ),
]
"""Overrides and messages."""

UNREAD = [
    ("+compile=true", "nothing reads compile, got True; leave it out"),
    ("+loss.smoothing=0.1", "does not read loss.smoothing, got 0.1"),
    ("+lr=0.1", "or use optimizer.lr, the nearest key that is read"),
    (
        "+schedule.warmup=1",
        "schedule=constant does not read schedule.warmup, got 1; leave it out, or use "
        "schedule.warmup",
    ),
    (
        "+schedule._target_=torch.optim.lr_scheduler.ReduceLROnPlateau",
        "or use schedule.name, the nearest",
    ),
    ("+data.unknown=1", "trialstack.data.Digits does not read data.unknown, got 1"),
    ("+data.root=data", "trialstack.data.Digits does not read data.root"),
    ("+model.width=3", "MLP does not read model.width, got 3"),
    ("+engine.stack=3", "or use engine.max_stack, the nearest"),
    ("+optimizer.speed=3", "torch.optim.SGD does not take optimizer.speed, got 3"),
    ("+trainer.nonsense=3", "lightning.Trainer does not take trainer.nonsense, got 3"),
    ("+callbacks.progress.color=red", "EpochBar does not take callbacks.progress.color, got 'red'"),
]
"""Overrides with keys that nothing reads, and messages."""

ONCE_READ = "data.augment=[{_target_: torchvision.transforms.v2.RandomCrop, size: 24}]"
"""A mistake that is seen once the data is there, and so in a run folder."""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("override", "message"), [*VALUES, *UNREAD])
def test_a_bad_value_is_one_line_and_exit_code_2_and_leaves_nothing(
    override: str, message: str, command: Command
) -> None:
    ended = command(
        "train.py",
        override,
        "trainer.max_epochs=1" if "max_epochs" not in override else "test=false",
    )
    assert ended.code == 2, ended.err
    assert message in ended.err
    assert len(ended.err.splitlines()) == 1, ended.err
    assert override == ONCE_READ or not list(Path().iterdir())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["data=fashion", "data.val_size=60000"],
            "data.val_size < 60000 must hold (the training set of Fashion-MNIST)",
        ),
        (
            ["data=mnist", "data.batch_size=55001"],
            "data.batch_size <= 55000 must hold (the training samples of MNIST)",
        ),
        (["data=mnist", "data.root='a\nb'"], "data.root must be a folder, got 'a\\nb'"),
        (
            ["optimizer=adam", "optimizer.betas=[0,0]"],
            "optimizer.betas must be two numbers with a point",
        ),
        (
            ["optimizer=adam", "+optimizer.capturable=true"],
            "cannot make a step: If capturable=True",
        ),
        (
            ["optimizer=adamw", "optimizer.lr=1e30", "optimizer.weight_decay=1e30"],
            "must be at most 3.4e38",
        ),
        (
            ["optimizer=adam", "optimizer.eps=1e-308"],
            "optimizer.eps must be a number above 0 (float32 holds",
        ),
        (
            [
                "schedule=step",
                "schedule.step_size=1",
                "schedule.gamma=1e30",
                "trainer.max_epochs=9",
            ],
            "got 1e238",
        ),
        (
            ["schedule=cosine", "schedule.eta_min=1e308"],
            "schedule.eta_min must be a number of at least 0 (float32",
        ),
        (
            ["schedule=onecycle", "schedule.final_div_factor=1e-308"],
            "final_div_factor must be a number above 0",
        ),
        (
            ["schedule=onecycle", "schedule.div_factor=1e-30", "schedule.final_div_factor=1e-30"],
            "must be at most 3.4e38",
        ),
        (
            [
                "objective=train/loss",
                "trainer.limit_val_batches=0",
                "callbacks=early_stopping",
                WATCH,
            ],
            "needs validation",
        ),
        (["-m", "logger=null,none"], "logger must be the name of an option, got logger=null,none"),
        (
            ["-m", "seed=1,2", "hydra.sweeper.max_batch_size=0"],
            "hydra.sweeper.max_batch_size >= 1 must hold, got 0",
        ),
        (["-m", "optimizer=adam", "optimizer.betas=[0.9,0.999],[0,0.9]"], "got [0, 0.9]"),
        (["-m", "schedule=onecycle", "schedule.final_div_factor=1e4,1e-308"], "got 1e-308"),
        (
            [
                "-m",
                "optimizer.nesterov=true",
                "optimizer.momentum=0.9",
                "+optimizer.dampening=0.0,0.1",
            ],
            "zero dampening",
        ),
        (["-m", "seed=1,2", "folder=X"], "folder must be"),
        (["-m", "seed=1,2", "+compile=true"], "nothing reads compile"),
        (["-m", "+trainer.profiler=simple,nonsense"], "profiler"),
        (["-m", "data.val_size=300,1500"], "data.val_size < 1500 must hold"),
        (["retry=diverged"], "retry=diverged is for sweeps, got a single run; add -m"),
        (["on_error=stop"], "on_error=stop is for sweeps, got a single run; add -m"),
        (
            ["data=fashion", "data.root=nowhere", "data.download=false"],
            "Fashion-MNIST is not in nowhere/FashionMNIST",
        ),
        (
            ["-m", "data=mnist", "seed=1,2", "data.root=nowhere", "data.download=false"],
            "MNIST is not in nowhere/",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_is_said_before_anything_is_written(
    overrides: list[str], message: str, command: Command
) -> None:
    ended = command("train.py", *overrides)
    assert (ended.code, len(ended.err.splitlines())) == (2, 1), ended.err
    assert message in ended.err
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("optimizer=rmsprop optimizer.alpha=1.0", "optimizer.alpha must be a number from 0 up to"),
        ("optimizer=rmsprop optimizer.centered=1", "optimizer.centered must be true or false"),
        ("optimizer=adagrad optimizer.eps=0", "optimizer.eps must be a number above 0"),
        ("optimizer=adagrad optimizer.initial_accumulator_value=-1", "of at least 0, got -1"),
        ("schedule=exponential schedule.gamma=0", "schedule.gamma must be a number above 0"),
        ("schedule=exponential schedule.gamma=1e4 trainer.max_epochs=20", "got 1e78"),
        ("schedule=polynomial schedule.power=-1", "schedule.power must be a number above 0"),
        ("schedule=plateau schedule.factor=1.0", "schedule.factor must be a number between 0 and"),
        ("schedule=plateau schedule.monitor=lr", "schedule.monitor must be the name of a metric"),
        (
            "schedule=plateau objective=train/acc schedule.monitor=val/acc "
            "trainer.limit_val_batches=0",
            "schedule.monitor=val/acc needs validation",
        ),
    ],
)
def test_numbers_of_optimizers_and_schedules_have_rules(
    overrides: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as raised:
        composed(tmp_path, *overrides.split())
    assert message in str(raised.value)


def test_a_key_for_interpolations_is_read(command: Command) -> None:
    named = ("+tag=mine", "+width=7", "model.hidden=['${width}']", "hydra.run.dir=runs/${tag}")
    ended = command("train.py", *named, "trainer.max_epochs=1", "logger=none")
    assert ended.code == 0, ended.err
    ended = command("train.py", "resume=runs/mine", "trainer.max_epochs=2")
    assert ended.code == 0, ended.err


def test_what_is_known_of_datasets_is_so() -> None:
    digits = Digits(val_size=300)
    digits.setup()
    samples = len(digits.train_samples.labels) + 300
    known = DATASETS["trialstack.data.Digits"]
    assert (known.samples, known.pixels) == (samples, digits.train_samples.images[0].numel())
    for name, dataset in DATASETS.items():
        cls: Any = get_class(name)
        assert (dataset.name, dataset.classes) == (cls.dataset, len(cls.class_names))
        assert dataset.downloads == ("root" in inspect.signature(cls).parameters)


def test_what_is_known_of_torch_and_lightning_is_so() -> None:
    for name in INITIALIZERS:
        getattr(torch.nn.init, f"{name}_")(torch.empty(3, 4))
    taken = inspect.signature(Trainer).parameters
    assert TrainerConfig.known().keys() <= taken.keys()
    for precision in PRECISIONS:
        with warnings.catch_warnings(action="ignore"):
            Trainer(precision=precision, logger=False, accelerator="cpu")  # type: ignore[arg-type]


def test_a_trial_from_python_outside_a_clone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        UserError, match=r"conf/train.yaml does not exist: compose_trial.* leave it out"
    ) as raised:
        compose_trial(["seed=2"], tmp_path / "run", Path("conf"))
    assert "\n" not in str(raised.value)
    with pytest.raises(UserError, match="nothing reads compile"):
        compose_trial(["+compile=true"], tmp_path / "run")
    assert not (tmp_path / "run").exists()


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
    assert not list(Path("outputs/runs").iterdir())


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
        (
            "trainer=gpu",
            "trainer.accelerator=gpu needs a GPU that torch can use, found none; try trainer=cpu",
        ),
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
        (
            "optimizer.lrr=1",
            ("optimizer.lrr", "Did you mean 'optimizer.lr'?", "momentum", "weight_decay"),
        ),
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


def test_a_full_error_shows_the_traceback(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trialstack.cli.command._FULL_ERROR", "1")
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
    for part in (
        "Fashion-MNIST is not in nowhere/FashionMNIST/raw",
        "t10k-labels-idx1-ubyte",
        "data=digits",
    ):
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
def test_a_corrupt_or_foreign_checkpoint(
    script: str, key: str, command: Command, run: Path
) -> None:
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
    checkpoint["hyper_parameters"]["model"] = {
        "_target_": "subprocess.Popen",
        "args": ["touch", "pwned"],
    }
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
def test_resume_does_not_change_the_run(
    override: str, message: str, command: Command, run: Path
) -> None:
    ended = command("train.py", f"resume={run}", override)
    assert (ended.code, len(ended.err.splitlines())) == (2, 1), ended.err
    assert message in ended.err


def test_a_schedule_that_was_laid_out_cannot_be_lengthened(command: Command) -> None:
    assert (
        command("train.py", "schedule=cosine", "trainer.max_epochs=1", "hydra.run.dir=a").code == 0
    )
    ended = command("train.py", "resume=a", "trainer.max_epochs=2")
    assert ended.code == 2
    assert "schedule=cosine is laid out for trainer.max_epochs=1, got 2" in ended.err


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["index=[297]"], "index < 297 must hold (the test set), got 297"),
        (["index=[-1]"], "index must be a list of sample numbers from 0, or all, got [-1]"),
        (["index=1.5"], "got 1.5; try index=[0,1,2]"),
        ([], "either index=[0,1,2] or images=[a.png,...] is needed, got neither"),
        (["index=[0]", "images=[a.png]"], "got both"),
        (["images=[nowhere.png]"], "image nowhere.png does not exist"),
        (["images=[run/result.json]"], "run/result.json is no image that can be read"),
        (["images=[run]"], "image run is no regular file"),
        (["index=[0]", "output=labels.txt"], "output must be a file that ends in .csv or .json"),
        (
            ["index=[0]", "output=run/result.json/labels.csv"],
            "cannot write output=run/result.json/labels.csv",
        ),
        (
            ["index=[0]", "output=nowhere/labels.csv"],
            "there is no folder nowhere; try output=labels.csv",
        ),
        (["index=[0]", "+top=3"], "nothing reads top, got 3"),
        (["index=[0]", "accelerator=tpu"], "accelerator must be one of auto, cpu, gpu"),
        (["index=[0]", "invert=maybe"], "invert must be true, false or auto, got 'maybe'"),
    ],
)
def test_predict_says_what_is_wrong(
    overrides: list[str], message: str, command: Command, run: Path
) -> None:
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
