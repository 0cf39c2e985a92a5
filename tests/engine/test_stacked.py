"""The stacked engine against the eager one and against itself: in company and alone, repeated,
killed and resumed.

float64 (`trainer.precision=64-true`) where numbers of two ways to compute them are compared: 1e-9
is what rounding may grow to in an epoch or two.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor

from tests.conftest import ROOT, composed, longer
from tests.run.test_runs import metrics, weights
from trialstack.core.errors import Interrupted, UserError
from trialstack.engine.eager import Classifier
from trialstack.engine.mlp_stack import Stack
from trialstack.run.result import Result
from trialstack.run.train import train
from trialstack.run.trial import Trial, compose_trial, resume_trial

SMALL = ("model.hidden=[16,12]", "trainer.max_epochs=2", "test=false")
DOUBLE = (*SMALL, "trainer.precision=64-true")
CHUNKS = "engine.steps_per_execution=7"


def trained(folder: Path, *overrides: str) -> dict[str, Tensor]:
    [result] = train([composed(folder, *overrides)])
    assert result.status == "completed"
    return weights(folder, "last")


def assert_close(left: dict[str, Tensor], right: dict[str, Tensor], relative: float = 1e-9) -> None:
    assert left.keys() == right.keys()
    for name, value in left.items():
        largest = right[name].abs().max()
        assert (value - right[name]).abs().max() <= relative * largest, name


def assert_rows_close(rows: list[dict[str, str]], expected: list[dict[str, str]]) -> None:
    for name in ("train/loss", "train/acc", "val/loss", "val/acc", "lr"):
        assert [float(row[name]) for row in rows] == pytest.approx(
            [float(row[name]) for row in expected], rel=1e-9
        )


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize(
    "overrides",
    [
        ["optimizer=sgd"],
        ["optimizer.momentum=0.9", "optimizer.weight_decay=0.01"],
        ["optimizer.momentum=0.9", "optimizer.nesterov=true"],
        ["optimizer=adam", "optimizer.weight_decay=0.01"],
        ["optimizer=adamw"],
        ["schedule=cosine", "schedule.warmup_epochs=0.5"],
        ["schedule=step", "schedule.step_size=1"],
        ["schedule=onecycle"],
        ["optimizer=rmsprop", "schedule=exponential", "model.activation=silu"],
        ["optimizer=rmsprop", "optimizer.momentum=0.9", "optimizer.weight_decay=0.01"],
        ["optimizer=adagrad", "optimizer.lr_decay=0.01", "model.activation=leaky_relu"],
        ["schedule=polynomial", "schedule.warmup_epochs=0.5", "model.activation=elu"],
        ["model.activation=gelu", "data.normalize=standard"],
        ["model.hidden=[]", "data.batch_size=1000"],
        ["loss.class_weights=balanced", "loss.label_smoothing=0.1"],
        ["trainer.limit_train_batches=10", "trainer.limit_val_batches=1"],
        ["trainer.limit_train_batches=0.5", "trainer.check_val_every_n_epoch=2"],
    ],
    ids=lambda overrides: " ".join(overrides),
)
def test_the_engines_agree(overrides: list[str], tmp_path: Path) -> None:
    stacked = trained(tmp_path / "stacked", *DOUBLE, *overrides, "engine=stacked", CHUNKS)
    eager = trained(tmp_path / "eager", *DOUBLE, *overrides, "engine=eager")
    assert_close(stacked, eager)
    rows = [metrics(tmp_path / engine) for engine in ("stacked", "eager")]
    assert [(row["epoch"], row["step"]) for row in rows[0]] == [
        (row["epoch"], row["step"]) for row in rows[1]
    ]
    for name in ("train/loss", "train/acc", "val/loss", "val/acc", "lr"):
        values = [[float(row[name]) for row in part if row[name]] for part in rows]
        assert values[0] == pytest.approx(values[1], rel=1e-6)  # the eager engine's are float32
    results = [Result.read(tmp_path / engine) for engine in ("stacked", "eager")]
    assert results[0] is not None
    assert results[1] is not None
    assert (results[0].best_epoch, results[0].parameters) == (
        results[1].best_epoch,
        results[1].parameters,
    )


FIVE = [
    ["seed=3", "optimizer.lr=0.1"],
    ["seed=1", "optimizer.lr=0.02", "model.dropout=0.4", "loss.label_smoothing=0.2"],
    ["seed=3", "optimizer.momentum=0.9", "loss.class_weights=[1,2,3,4,5,6,7,8,9,10]"],
    ["seed=2", "optimizer.weight_decay=0.01", "model.dropout=0.1"],
    ["seed=1", "schedule.warmup_epochs=1", "model.init=kaiming_uniform"],
]


def stack_of(folder: Path, trials: Sequence[Sequence[str]], *common: str) -> list[Trial]:
    quiet = ("callbacks=none", "logger=none")
    return [
        compose_trial([*quiet, *common, *trial], folder / str(number), ROOT / "conf")
        for number, trial in enumerate(trials)
    ]


def test_folds_train_together_as_each_does_alone(tmp_path: Path) -> None:
    common = (*DOUBLE, "data.folds=4")
    folds = [["data.fold=3"], ["data.fold=0", "seed=2"], ["data.fold=1"]]
    results = train(stack_of(tmp_path, folds, *common, "metrics=f1"))
    assert [result.stack_size for result in results] == [3] * 3
    for number, fold in enumerate(folds):
        for engine in ("stacked", "eager"):
            alone = tmp_path / f"{number} {engine}"
            weights_alone = trained(alone, *common, *fold, f"engine={engine}", "metrics=f1")
            assert_close(weights(tmp_path / str(number), "last"), weights_alone)
            for row, expected in zip(metrics(tmp_path / str(number)), metrics(alone), strict=True):
                for name in ("train/loss", "val/loss", "val/acc", "val/f1"):
                    assert float(row[name]) == pytest.approx(float(expected[name]), rel=1e-6)


@pytest.mark.parametrize("group", ["optimizer=sgd", "optimizer=adam"])
def test_a_trial_in_a_stack_is_the_trial_alone(group: str, tmp_path: Path) -> None:
    trials = [
        [override for override in trial if "momentum" not in override or "sgd" in group]
        for trial in FIVE
    ]
    common = (*DOUBLE, CHUNKS, group, "model.dropout=0.2")
    orders = {"one": [0, 1, 2, 3, 4], "another": [4, 2, 0, 3, 1]}
    for name, order in orders.items():
        results = train(stack_of(tmp_path / name, [trials[number] for number in order], *common))
        assert [(result.engine, result.stack_size) for result in results] == [("stacked", 5)] * 5
    for number, trial in enumerate(trials):
        alone = trained(tmp_path / "alone", *common, *trial)
        expected = metrics(tmp_path / "alone")
        for name, order in orders.items():
            folder = tmp_path / name / str(order.index(number))
            assert_close(weights(folder, "last"), alone)
            assert_rows_close(metrics(folder), expected)


@pytest.mark.parametrize(
    ("groups", "trials"),
    [
        (
            ["optimizer=rmsprop", "schedule=exponential"],
            [
                ["optimizer.alpha=0.99", "optimizer.momentum=0.5", "schedule.gamma=0.5"],
                ["optimizer.eps=1e-5", "optimizer.weight_decay=0.01", "schedule.gamma=1.1"],
            ],
        ),
        (
            ["optimizer=adagrad", "schedule=polynomial"],
            [
                ["optimizer.lr_decay=0.1", "optimizer.eps=1e-5", "schedule.power=2"],
                ["optimizer.initial_accumulator_value=0.5", "schedule.warmup_epochs=1"],
            ],
        ),
    ],
    ids=["rmsprop", "adagrad"],
)
def test_trials_may_differ_in_numbers_of_their_optimizer_and_schedule(
    groups: list[str], trials: list[list[str]], tmp_path: Path
) -> None:
    results = train(stack_of(tmp_path, trials, *DOUBLE, CHUNKS, *groups))
    assert [result.stack_size for result in results] == [2, 2]
    for number, trial in enumerate(trials):
        alone = trained(tmp_path / "alone", *DOUBLE, CHUNKS, *groups, *trial)
        assert_close(weights(tmp_path / str(number), "last"), alone)
        assert_rows_close(metrics(tmp_path / str(number)), metrics(tmp_path / "alone"))


def test_a_large_stack_writes_few_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    original = Trainer.save_checkpoint

    def save(trainer: Trainer, *arguments: Any, **named: Any) -> None:
        written.append(trainer.current_epoch + 1)
        original(trainer, *arguments, **named)

    monkeypatch.setattr(Trainer, "save_checkpoint", save)
    monkeypatch.setattr("trialstack.run.stack_checkpoint.PAUSE", 1e9)
    train(stack_of(tmp_path, FIVE[:2], *SMALL, "trainer.max_epochs=5"))
    assert written == [1, 5]


def test_a_large_stack_is_worked_through_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(stack_of(tmp_path / "whole", FIVE, *DOUBLE))
    monkeypatch.setattr("trialstack.engine.stacked.PART_BYTES", 250_000)  # two trials or three
    train(stack_of(tmp_path / "parts", FIVE, *DOUBLE))
    for number in range(5):
        assert_close(
            weights(tmp_path / "parts" / str(number)), weights(tmp_path / "whole" / str(number))
        )


@pytest.mark.parametrize("trials", [FIVE[1:2], FIVE])
def test_float32_repeats_bit_by_bit(trials: list[list[str]], tmp_path: Path) -> None:
    for time in ("first", "second"):
        train(stack_of(tmp_path / time, trials, *SMALL))
    for number in range(len(trials)):
        for name in ("best", "last"):
            assert same(
                *(weights(tmp_path / time / str(number), name) for time in ("first", "second"))
            )


def interrupt_after(epochs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the next fit stop as Ctrl-C would, in the epoch after `epochs`."""
    step = "trialstack.engine.stacked.StackedClassifier.training_step"
    original: Callable[..., None] = __import__(
        "trialstack.engine.stacked", fromlist=["x"]
    ).StackedClassifier.training_step

    def interrupted(module: Any, index: Tensor, batch_idx: int) -> None:
        if module.current_epoch == epochs and batch_idx == 2:
            raise KeyboardInterrupt
        original(module, index, batch_idx)

    monkeypatch.setattr(step, interrupted)


@pytest.mark.parametrize("optimizer", ["optimizer.momentum=0.9", "optimizer=adam"])
@pytest.mark.parametrize("trials", [FIVE[1:2], [FIVE[0], FIVE[1], FIVE[3]]])
def test_an_interrupted_stack_resumes_to_bit_equal_weights(
    trials: list[list[str]], optimizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trialstack.run.stack_checkpoint.PAUSE", 0)
    common = (*SMALL, CHUNKS, optimizer, "schedule=cosine", "trainer.max_epochs=5")
    train(stack_of(tmp_path / "whole", trials, *common))
    with monkeypatch.context() as patch:
        interrupt_after(2, patch)
        with pytest.raises(Interrupted):
            train(stack_of(tmp_path / "stopped", trials, *common))
    for number in range(len(trials)):
        result = json.loads((tmp_path / "stopped" / str(number) / "result.json").read_text())
        assert (result["status"], result["epochs"]) == ("interrupted", 2)
    train([resume_trial(tmp_path / "stopped" / str(number)) for number in range(len(trials))])
    for number in range(len(trials)):
        for name in ("best", "last"):
            assert same(
                *(weights(tmp_path / time / str(number), name) for time in ("whole", "stopped"))
            )
        whole, stopped = (
            metrics(tmp_path / "whole" / str(number)),
            metrics(tmp_path / "stopped" / str(number)),
        )
        assert [row | {"seconds": ""} for row in whole] == [
            row | {"seconds": ""} for row in stopped
        ]


def test_a_killed_stack_goes_on_from_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trialstack.run.stack_checkpoint.PAUSE", 0)
    trials, common = FIVE[:2], (*SMALL, CHUNKS, "trainer.max_epochs=4")
    train(stack_of(tmp_path / "whole", trials, *common))
    with monkeypatch.context() as patch:
        interrupt_after(2, patch)
        patch.setattr(
            "trialstack.run.stack_checkpoint.StackCheckpoint.finish", lambda *_: None
        )  # as SIGKILL leaves it
        with pytest.raises(Interrupted):
            train(stack_of(tmp_path / "killed", trials, *common))
    assert [path.name for path in (tmp_path / "killed/0/checkpoints").iterdir()] == ["stack.ckpt"]
    train([resume_trial(tmp_path / "killed" / str(number)) for number in range(2)])
    for number in range(2):
        for name in ("best", "last"):
            assert same(
                *(weights(tmp_path / time / str(number), name) for time in ("whole", "killed"))
            )
        checkpoints = tmp_path / "killed" / str(number) / "checkpoints"
        assert {path.name for path in checkpoints.iterdir()} == {"best.ckpt", "last.ckpt"}


def test_a_trial_of_a_stack_goes_on_alone(tmp_path: Path) -> None:
    common = (*DOUBLE, "optimizer=adam", "model.dropout=0.2")
    train(stack_of(tmp_path, [["seed=1"], ["seed=2"]], *common))
    [result] = train([longer(resume_trial(tmp_path / "1"), epochs=4)])
    assert (result.status, result.epochs, result.stack_size) == ("completed", 4, 1)
    alone = trained(tmp_path / "alone", *common, "seed=2", "trainer.max_epochs=4")
    assert_close(weights(tmp_path / "1", "last"), alone)


@pytest.mark.parametrize("group", ["optimizer=sgd", "optimizer=adam"])
def test_a_diverged_trial_is_marked_and_the_others_do_not_notice(
    group: str, tmp_path: Path
) -> None:
    for name, lr in (("healthy", "0.2"), ("infected", "1e30")):
        trials = [[f"optimizer.lr={rate}"] for rate in ("0.1", lr, "0.05")]
        results = train(stack_of(tmp_path / name, trials, *SMALL, group))
    assert [result.status for result in results] == ["completed", "diverged", "completed"]
    assert results[1].reason == "the loss became NaN or infinite in epoch 1"
    assert results[1].epochs == 0
    for number in (0, 2):
        assert same(
            weights(tmp_path / "infected" / str(number)),
            weights(tmp_path / "healthy" / str(number)),
        )


def test_a_stack_whose_trials_all_diverge_ends(tmp_path: Path) -> None:
    results = train(stack_of(tmp_path, [["optimizer.lr=1e30"], ["optimizer.lr=1e31"]], *SMALL))
    assert [result.status for result in results] == ["diverged", "diverged"]


def test_trials_that_differ_in_more_than_numbers_form_separate_stacks(tmp_path: Path) -> None:
    trials = [
        ["seed=1"],
        ["optimizer=adam"],
        ["seed=2"],
        ["model.hidden=[8]"],
        ["engine=eager"],
        ["data.batch_size=64"],
    ]
    results = train(stack_of(tmp_path, trials, *SMALL))
    assert [(result.engine, result.stack_size) for result in results] == [
        ("stacked", 2), ("stacked", 1), ("stacked", 2), ("stacked", 1), ("eager", 1),
        ("stacked", 1),
    ]  # fmt: skip


def test_every_trial_of_a_stack_leaves_what_a_run_leaves(tmp_path: Path) -> None:
    logger = "logger=tensorboard"
    trials = stack_of(tmp_path, [["seed=1"], ["seed=2"]], *SMALL, logger, "test=true")
    for result, trial in zip(train(trials), trials, strict=True):
        names = {path.name for path in trial.folder.iterdir() if "tfevents" not in path.name}
        assert names == {".hydra", "checkpoints", "metrics.csv", "result.json"}
        assert any("tfevents" in path.name for path in trial.folder.iterdir())
        assert 0 < result.metrics["test/acc"] < 1
        best = Classifier.load_from_checkpoint(
            trial.folder / "checkpoints" / "best.ckpt", weights_only=True
        )
        assert best.hparams["seed"] == trial.config.seed


def test_chunks_change_nothing_without_dropout(tmp_path: Path) -> None:
    a = trained(tmp_path / "a", *SMALL, "engine.steps_per_execution=1")
    b = trained(tmp_path / "b", *SMALL, "engine.steps_per_execution=1000")
    assert same(a, b)


def test_fast_dev_run_counts_optimizer_steps(tmp_path: Path) -> None:
    trained(tmp_path, *SMALL, "trainer.fast_dev_run=9", "logger=tensorboard")
    assert [row["step"] for row in metrics(tmp_path)] == ["9"]


def test_lightnings_callbacks_find_the_usual_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Trainer] = []
    original = Trainer.fit

    def fit(trainer: Trainer, *arguments: Any, **named: Any) -> None:
        seen.append(trainer)
        original(trainer, *arguments, **named)

    monkeypatch.setattr(Trainer, "fit", fit)
    callbacks = (
        "+callbacks.keep={_target_: lightning.pytorch.callbacks.ModelCheckpoint, monitor: "
        "val/loss, dirpath: %s}"
    )
    trained(tmp_path, *SMALL, "callbacks=early_stopping", callbacks % (tmp_path / "kept"))
    [trainer] = seen
    assert {"train/loss", "train/acc", "val/loss", "val/acc", "lr"} <= set(trainer.callback_metrics)
    assert trainer.global_step == 2 * 38
    [kept] = (tmp_path / "kept").iterdir()
    Classifier.load_from_checkpoint(kept, weights_only=True)


def test_a_composed_trial_is_checked_and_never_shares_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="must be a number of at least 0, got -1"):
        stack_of(tmp_path, [["optimizer.lr=-1"]])
    assert not (tmp_path / "0").exists()
    stack_of(tmp_path, [["seed=1"]])
    with pytest.raises(UserError, match="already holds a run"):
        stack_of(tmp_path, [["seed=2"]])


def test_a_damaged_checkpoint_of_a_stack_is_named_and_its_trials_begin_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trials = stack_of(tmp_path, [["seed=1"], ["seed=2"]], *SMALL)
    file = trials[0].folder / "checkpoints" / "stack.ckpt"
    file.parent.mkdir()
    file.write_bytes(b"PK")
    results = train([resume_trial(trial.folder) for trial in trials])
    assert "stack.ckpt is damaged or no checkpoint" in caplog.text
    assert [(result.status, result.epochs) for result in results] == [("completed", 2)] * 2


WIDTHS = [
    ["model.hidden=[16,12]", "seed=1", "model.dropout=0.2"],
    ["model.hidden=[7,3]", "seed=2", "model.dropout=0.2", "optimizer.weight_decay=0.01"],
    ["model.hidden=[5,20]", "seed=1"],
]


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu"])
@pytest.mark.parametrize("group", ["optimizer=sgd", "optimizer.momentum=0.9", "optimizer=adamw"])
def test_networks_of_other_widths_share_a_stack(
    group: str, activation: str, tmp_path: Path
) -> None:
    common = (*DOUBLE, CHUNKS, group, "engine.pad=true", f"model.activation={activation}")
    results = train(stack_of(tmp_path, WIDTHS, *common))
    assert [result.stack_size for result in results] == [3] * 3
    for number, trial in enumerate(WIDTHS):
        alone = trained(tmp_path / "alone", *common, *trial)
        assert_close(weights(tmp_path / str(number), "last"), alone)
        assert_rows_close(metrics(tmp_path / str(number)), metrics(tmp_path / "alone"))
        alone_result = Result.read(tmp_path / "alone")
        assert alone_result is not None
        assert results[number].parameters == alone_result.parameters


@pytest.mark.parametrize(
    "overrides",
    [
        ["optimizer=adamw"],
        ["optimizer=rmsprop", "optimizer.momentum=0.9", "model.activation=silu"],
        ["optimizer=adagrad", "optimizer.initial_accumulator_value=0.0", "model.activation=elu"],
    ],
    ids=" ".join,
)
def test_padding_stays_zero(
    overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stacks: list[Stack] = []
    original = Stack.begin_epoch

    def begin_epoch(stack: Stack, *arguments: Any, **named: Any) -> None:
        stacks.append(stack)
        original(stack, *arguments, **named)

    monkeypatch.setattr(Stack, "begin_epoch", begin_epoch)
    train(stack_of(tmp_path, WIDTHS, *SMALL, *overrides, "engine.pad=true"))
    stack = stacks[0]
    for tensor in (stack.parameters, *stack.optimizer.state.values()):
        assert tensor.count_nonzero() > 0
        for index in range(3):
            for view in stack.packing.of_trial(tensor, index):
                view.zero_()
        assert tensor.count_nonzero() == 0


def test_an_interrupted_stack_of_other_widths_resumes_to_bit_equal_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = (*SMALL, CHUNKS, "optimizer=adam", "trainer.max_epochs=3", "engine.pad=true")
    train(stack_of(tmp_path / "whole", WIDTHS, *common))
    with monkeypatch.context() as patched:
        interrupt_after(1, patched)
        with pytest.raises(Interrupted):
            train(stack_of(tmp_path / "parts", WIDTHS, *common))
    train([resume_trial(tmp_path / "parts" / str(number)) for number in range(3)])
    for number in range(3):
        parts = [weights(tmp_path / part / str(number), "last") for part in ("whole", "parts")]
        assert same(*parts)
