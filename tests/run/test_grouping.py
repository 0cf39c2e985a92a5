"""What the stacked engine cannot train with: named before anything is trained, and left to the
eager engine.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping

from tests.conftest import Ended, composed
from trialstack.data.datamodule import Digits
from trialstack.engine.losses import CrossEntropyLoss
from trialstack.engine.models import MLP
from trialstack.run.grouping import plan

Command = Callable[..., Ended]

QUICK = ("model.hidden=[8]", "trainer.max_epochs=1", "logger=none", "test=false")


class Wide(MLP):
    """Not quite an MLP."""


class OwnLoss(CrossEntropyLoss):
    """A loss of the user's own."""


class Own(Digits):
    """Makes its own batches."""

    def train_dataloader(self):  # type: ignore[no-untyped-def]
        return super().train_dataloader()


class Gradients(Callback):
    """Looks at gradients."""

    def on_after_backward(self, *arguments: object) -> None:
        pass


class EveryStep(Callback):
    """Does something at every step."""

    def on_train_batch_end(self, *arguments: object) -> None:
        pass


FLIP = "{_target_: torchvision.transforms.v2.RandomHorizontalFlip}"
LIGHTNING = "_target_: lightning.pytorch.callbacks"
REASONS = {
    "model._target_=tests.run.test_grouping.Wide": "only with trialstack.models.MLP",
    "optimizer._target_=torch.optim.ASGD ~optimizer.nesterov "
    "~optimizer.momentum": "optimizer._target_=torch.optim.ASGD, only with",
    "+optimizer.maximize=true": "optimizer.maximize=True",
    "+optimizer.dampening=0.1": "optimizer.dampening=0.1",
    "optimizer=adam +optimizer.amsgrad=true": "optimizer.amsgrad=True",
    "optimizer=rmsprop optimizer.centered=true": "optimizer.centered=True",
    "schedule=plateau": "schedule=plateau, whose rates follow val/acc",
    f"data.augment=[{FLIP}]": "data.augment, which transforms images one by one",
    "data._target_=tests.run.test_grouping.Own": "which has its own train_dataloader",
    "trainer.precision=bf16-mixed": "trainer.precision=bf16-mixed, only with 32-true and 64-true",
    "loss._target_=tests.run.test_grouping.OwnLoss": "tests.run.test_grouping.OwnLoss, "
    "only with trialstack.losses.CrossEntropyLoss",
    "+trainer.gradient_clip_val=1.0": "trainer.gradient_clip_val=1.0",
    "+trainer.accumulate_grad_batches=2": "trainer.accumulate_grad_batches=2",
    "+trainer.val_check_interval=0.5": "trainer.val_check_interval=0.5",
    "+trainer.max_steps=10 trainer.max_epochs=2": "trainer.max_steps=10",
    "+trainer.overfit_batches=5": "trainer.overfit_batches=5",
    "+trainer.detect_anomaly=true": "trainer.detect_anomaly=True",
    "+callbacks.x={_target_:tests.run.test_grouping.Gradients}": "acts on every optimizer step "
    "(on_after_backward)",
    "+callbacks.x={_target_:tests.run.test_grouping.EveryStep}": "acts on every optimizer step "
    "(on_train_batch_end)",
    f"+callbacks.x={{{LIGHTNING}.StochasticWeightAveraging,swa_lrs:0.1}}": "changes how a module "
    "trains",
    f"+callbacks.x={{{LIGHTNING}.GradientAccumulationScheduler,scheduling:{{0:2}}}}": "changes how "
    "a module "
    "trains",
}
"""By overrides."""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("changes", REASONS)
def test_what_cannot_be_stacked_trains_eagerly_and_says_why(changes: str, command: Command) -> None:
    overrides = changes.replace(": ", ":").split(" ")
    ended = command("train.py", *QUICK, *overrides, "hydra.run.dir=a")
    assert ended.code == 0, ended.err
    [line] = [
        line
        for line in ended.out.splitlines()
        if line.startswith("engine: eager, the stacked one cannot train")
    ]
    assert REASONS[changes] in line
    result = json.loads(Path("a/result.json").read_text())
    assert result["engine"] == "eager"
    ended_early = "max_steps" in changes
    assert result["reason"] == (
        "stopped after epoch 1 of 2: trainer.max_steps=10 was reached" if ended_early else None
    )

    ended = command("train.py", *QUICK, *overrides, "engine=stacked", "hydra.run.dir=b")
    assert (ended.code, len(ended.err.splitlines())) == (2, 1)
    assert ended.err.startswith("engine=stacked cannot train with")
    assert REASONS[changes] in ended.err
    assert not Path("b").exists()


def test_several_devices_are_the_eager_engines(command: Command) -> None:
    ended = command("train.py", *QUICK, "trainer.devices=2", "engine=stacked")
    assert ended.code == 2
    assert "engine=stacked cannot train with trainer.devices=2, only with one device" in ended.err
    ended = command("train.py", *QUICK, "trainer=ddp", "engine=stacked")
    assert "engine=stacked cannot train with trainer.strategy=ddp" in ended.err


@pytest.mark.parametrize(
    "overrides",
    [
        ["model.dropout=0.2", "optimizer=adamw", "schedule=onecycle"],
        ["trainer.precision=64-true"],
        [
            "+trainer.gradient_clip_val=null",
            "+trainer.accumulate_grad_batches=1",
            "trainer.deterministic=true",
        ],
        ["callbacks=early_stopping"],
        ["~model.dropout", "~model.activation", "~optimizer.momentum", "~optimizer.nesterov"],
        ["+trainer.num_sanity_val_steps=2"],
        ["+trainer.limit_test_batches=1", "+trainer.log_every_n_steps=5"],
    ],
    ids=lambda overrides: " ".join(overrides),
)
def test_what_can_be_stacked_is(overrides: list[str], command: Command) -> None:
    ended = command("train.py", *QUICK, *overrides, "hydra.run.dir=a")
    assert ended.code == 0, ended.err
    assert json.loads(Path("a/result.json").read_text())["engine"] == "stacked"
    assert "engine: eager" not in ended.out


def test_a_run_goes_on_with_the_engine_that_it_began_with(command: Command) -> None:
    for engine in ("eager", "auto"):
        assert command("train.py", *QUICK, f"engine={engine}", f"hydra.run.dir={engine}").code == 0
    ended = command(
        "train.py", "resume=auto", "trainer.max_epochs=2", "+trainer.gradient_clip_val=1.0"
    )
    assert (ended.code, len(ended.err.splitlines())) == (2, 1)
    assert (
        "began on the stacked engine, which cannot train with trainer.gradient_clip_val=1.0"
        in ended.err
    )

    Path("eager/.hydra/config.yaml").write_text(
        Path("eager/.hydra/config.yaml").read_text().replace("name: eager", "name: auto")
    )  # as a run of an earlier version, where auto was eager
    ended = command("train.py", "resume=eager", "trainer.max_epochs=2")
    assert ended.code == 0, ended.err
    assert (
        "engine: eager, the stacked one cannot train with a checkpoint of the eager engine"
        in ended.out
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_gpu_that_is_not_there_is_missed_as_before(command: Command) -> None:
    ended = command("train.py", *QUICK, "trainer=gpu")
    assert ended.code == 2
    assert "needs a GPU that torch can use" in ended.err


class Watching(Callback):
    """Looks at what it likes after an epoch."""

    def on_train_epoch_end(self, *arguments: object) -> None:
        pass


class Patient(EarlyStopping):
    """May do anything."""


SWEEP = (
    "-m",
    "seed=1,2,3",
    "model.hidden=[8]",
    "trainer.max_epochs=1",
    "trainer.limit_train_batches=2",
    "test=false",
)
_OWN = "{_target_:tests.run.test_grouping."
ALONE = {
    f"{_OWN}Watching}}": ("stacked", "the callback Watching, which knows of one trial alone"),
    f"{_OWN}Patient,monitor:val/acc}}": (
        "stacked",
        "the callback Patient, which knows of one trial alone",
    ),
    f"{_OWN}EveryStep}}": ("eager", "the callback EveryStep, which acts on every optimizer step"),
}


@pytest.mark.parametrize("callback", ALONE)
def test_trials_with_a_callback_of_ones_own_train_one_by_one_and_the_dry_run_and_the_sweep_say_why(
    callback: str, command: Command
) -> None:
    engine, why = ALONE[callback]
    overrides = (*SWEEP, "logger=none", f"+callbacks.x={callback}")
    ended = command("train.py", *overrides, "dry_run=true")
    assert ended.code == 0, ended.err
    said = " ".join(ended.out.replace("│", " ").split())
    assert f"{engine}: the callback" in said
    assert "3, one at a time" in said

    ended = command("train.py", *overrides, "sweep=s")
    assert ended.code == 0, ended.err
    assert (
        f"3 trials {'' if engine == 'stacked' else 'on the eager engine, '}one by one: {why}"
        in ended.out
    )
    for number in range(3):
        result = json.loads(Path(f"outputs/sweeps/s/{number}/result.json").read_text())
        assert (result["engine"], result["stack_size"]) == (engine, 1)


@pytest.mark.parametrize("engine", ["stacked", "eager"])
def test_a_profiler_prints_what_it_found_once(engine: str, command: Command) -> None:
    ended = command(
        "train.py", *QUICK, "+trainer.profiler=simple", f"engine={engine}", "hydra.run.dir=a"
    )
    assert ended.code == 0, ended.err
    assert (ended.out + ended.err).count("Mean duration (s)") == 1
    assert Path("a/train.log").read_text().count("Mean duration (s)") == 1


@pytest.mark.parametrize(
    ("finder", "sweep"),
    [
        ("LearningRateFinder", "python train.py -m optimizer.lr=0.1,0.03,0.01"),
        ("BatchSizeFinder", "python train.py -m data.batch_size=32,64"),
    ],
)
def test_a_callback_that_changes_the_config_is_refused(
    finder: str, sweep: str, command: Command
) -> None:
    for engine in ("auto", "eager"):
        ended = command(
            "train.py", *QUICK, f"+callbacks.x={{{LIGHTNING}.{finder}}}", f"engine={engine}"
        )
        assert ended.code == 2, ended.err
        assert ended.err == (
            f"callbacks must leave a trial's config as it is, got {finder}; try a sweep in its "
            f"place: {sweep}\n"
        )


def test_what_lightning_says_of_a_config_is_one_line(command: Command) -> None:
    ended = command("train.py", *QUICK, f"+callbacks.x={{{LIGHTNING}.DeviceStatsMonitor}}")
    assert ended.code == 2, ended.err
    assert len(ended.err.splitlines()) == 1
    assert "Cannot use `DeviceStatsMonitor` callback" in ended.err


NEAR, FAR = ([300, 100], [290, 90]), ([300, 100], [30, 10])


@pytest.mark.parametrize(
    ("widths", "settings", "stacks"),
    [
        (NEAR, [], [[0, 1]]),
        (FAR, [], [[0], [1]]),
        (FAR, ["engine.pad=true"], [[0, 1]]),
        (NEAR, ["engine.pad=false"], [[0], [1]]),
        (([300], [300, 100]), ["engine.pad=true"], [[0], [1]]),
        (([30, 10], [300, 100], [28, 10], [290, 100], []), [], [[0, 2], [1, 3], [4]]),
        (NEAR, ["engine=eager"], [[0], [1]]),
    ],
)
def test_networks_of_near_widths_form_a_stack(
    widths: tuple[list[int], ...], settings: list[str], stacks: list[list[int]], tmp_path: Path
) -> None:
    trials = [
        composed(tmp_path / str(number), f"model.hidden={hidden}", *settings)
        for number, hidden in enumerate(widths)
    ]
    assert [planned.members for planned in plan([trial.config for trial in trials])] == stacks


def test_a_gpu_pads_whatever_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trialstack.run.grouping._device_type", lambda accelerator: "cuda")
    trials = [composed(tmp_path, f"model.hidden={hidden}") for hidden in FAR]
    [planned] = plan([trial.config for trial in trials])
    assert (planned.members, planned.padded) == ([0, 1], [300, 100])


def test_a_sweep_over_widths_is_one_stack_and_a_dry_run_says_so(command: Command) -> None:
    sweep = ("train.py", "-m", *QUICK, "model.hidden=[30],[32],[33]", "sweep=s")
    ended = command(*sweep, "dry_run=true")
    assert "stacked, padded to [33]" in ended.out
    assert command(*sweep).code == 0
    results = [
        json.loads(Path(f"outputs/sweeps/s/{number}/result.json").read_text())
        for number in range(3)
    ]
    assert [result["stack_size"] for result in results] == [3] * 3
    assert [result["parameters"] for result in results] == [
        785 * width + (width + 1) * 10 for width in (30, 32, 33)
    ]
    for number in range(3):
        assert command("evaluate.py", f"run=outputs/sweeps/s/{number}").code == 0
