"""Successive halving: who is stopped at a rung, who trains on, and what a later command does."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import Ended
from tests.run.test_runs import weights
from tests.sweep.test_sweeps import leaderboard, result
from trialstack.run.stack_checkpoint import StackCheckpoint
from trialstack.sweep.figure import sweep_figure
from trialstack.sweep.leaderboard import Leaderboard
from trialstack.sweep.phases import Phases

Command = Callable[..., Ended]
Trained = Callable[..., Path]

QUICK = (
    "-m", "model.hidden=[8]", "trainer.max_epochs=5", "callbacks=none", "logger=none",
    "trainer.precision=64-true", "schedule=cosine", "model.activation=gelu",
)  # fmt: skip
HALVED = (*QUICK, "halving=successive", "halving.factor=2", "sweep=s")
RATES = "optimizer.lr=0.001,0.1,0.05,0.002"
FOLDER, WHOLE = Path("outputs/sweeps/s"), Path("outputs/sweeps/whole")


def ends(count: int, folder: Path = FOLDER) -> list[tuple[str, int, str | None]]:
    results = [result(number, folder) for number in range(count)]
    return [(found["status"], found["epochs"], found["reason"]) for found in results]


def same_weights(count: int) -> bool:
    """Whether trials have the weights of those without halving, but for the order of sums."""
    return all(
        torch.allclose(mine, other, rtol=1e-9, atol=1e-12)
        for number in range(count)
        for mine, other in zip(
            weights(FOLDER / str(number)).values(),
            weights(WHOLE / str(number)).values(),
            strict=True,
        )
    )


@pytest.fixture
def whole(trained_sweep: Trained) -> None:
    """The sweep without halving, in `WHOLE`."""
    trained_sweep(*QUICK, RATES, "sweep=s").rename(WHOLE)


@pytest.fixture
def halved(whole: None, trained_sweep: Trained) -> None:
    """The sweep with halving, beside it."""
    trained_sweep(*HALVED, RATES)


def test_the_best_rows_train_on_and_are_what_they_are_without_halving(
    command: Command, halved: None
) -> None:
    found = ends(4)
    assert found[1:3] == [
        ("completed", 5, None),
        ("stopped", 2, "rung 2 (epoch 2): 2nd of 2"),
    ]
    assert {found[0], found[3]} == {
        ("stopped", 1, "rung 1 (epoch 1): 3rd of 4"),
        ("stopped", 1, "rung 1 (epoch 1): 4th of 4"),
    }
    assert [row["rung"] for row in leaderboard()] == ["", "2", "1", "1"]
    assert [row["epochs"] for row in leaderboard()] == ["5", "2", "1", "1"]
    parts = sweep_figure(Leaderboard(FOLDER)).subfigs
    assert [axes.get_xlabel() for axes in parts[-1].axes] == ["epoch (dotted: rungs)", "trial"]
    assert len(parts[-1].axes[0].lines) == 4 + 2
    assert "test/acc" in result(1)["metrics"]
    # the last one trains by itself, and leaves what trials of a sweep leave
    assert not (FOLDER / "1" / "history.png").exists()
    assert "test/acc" not in result(2)["metrics"]
    verified = command("verify.py", f"trial={FOLDER / '2'}")
    assert verified.code == 0, verified.err
    assert "stopped in a stack of 2, stopped alone" in verified.out
    assert torch.allclose(
        torch.cat([value.flatten() for value in weights(FOLDER / "1").values()]),
        torch.cat([value.flatten() for value in weights(WHOLE / "1").values()]),
        rtol=1e-9,
        atol=1e-12,
    )


def test_a_later_command_trains_on_what_was_stopped(command: Command, halved: None) -> None:
    before, times = ends(4), [Path(FOLDER, str(n), "result.json").stat().st_mtime for n in range(4)]
    again = command("train.py", *HALVED, RATES)
    assert "3 stopped, 1 kept (completed)" in again.out
    assert ends(4) == before
    assert times == [Path(FOLDER, str(n), "result.json").stat().st_mtime for n in range(4)]

    milder = command(
        "train.py", *QUICK, "halving=successive", "halving.rungs=[3]", RATES, "sweep=s"
    )
    assert "3 going on from their last checkpoint, 1 kept (completed)" in milder.out
    assert [epochs for _, epochs, _ in ends(4)] == [3, 5, 3, 3]

    none = command("train.py", *QUICK, RATES, "sweep=s")
    assert "3 going on from their last checkpoint, 1 kept (completed)" in none.out
    assert ends(4) == ends(4, WHOLE)
    assert same_weights(4)


def test_what_diverged_is_last(command: Command) -> None:
    options = ("trainer.precision=32-true", "halving.factor=3", "trainer.max_epochs=3")
    ended = command("train.py", *HALVED, *options, "optimizer.lr=1e30,1e37,0.001", "test=false")
    assert ended.code == 0, ended.err
    assert [status for status, *_ in ends(3)] == ["diverged", "diverged", "completed"]


def test_seeds_of_a_row_stay_together_also_across_stacks_and_engines(command: Command) -> None:
    ended = command(
        "train.py", *HALVED, "optimizer.lr=0.2,0.001", "seed=1,2", "engine=stacked,eager",
        "trainer.max_epochs=3", "test=false",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    found = ends(8)
    assert [status for status, *_ in found].count("completed") == 2
    for row in ([0, 2], [1, 3], [4, 6], [5, 7]):
        assert len({found[number] for number in row}) == 1, (row, found)
    assert all(found[number][2] in (
        "rung 1 (epoch 1): 3rd of 4", "rung 1 (epoch 1): 4th of 4"
    ) for number in (4, 5, 6, 7))  # fmt: skip


def test_a_sweep_that_was_stopped_between_rungs_goes_on(
    command: Command, trained_sweep: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained_sweep(*HALVED, RATES).rename(WHOLE)
    train = Phases._train

    def stop(self: Phases, phase: Any) -> None:
        if phase.number == 2:
            raise KeyboardInterrupt
        train(self, phase)

    with monkeypatch.context() as patched:
        patched.setattr(Phases, "_train", stop)
        assert command("train.py", *HALVED, RATES).code == 130
    assert [epochs for _, epochs, _ in ends(4)] == [1, 1, 1, 1]
    command("train.py", *HALVED, RATES)
    assert ends(4) == ends(4, WHOLE)
    for number in range(4):
        mine, other = weights(FOLDER / str(number)), weights(WHOLE / str(number))
        assert all(torch.equal(mine[name], other[name]) for name in mine)


def test_a_sweep_that_was_stopped_without_halving_goes_on_with_it(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_epoch_end = StackCheckpoint.on_train_epoch_end

    def stop(self: StackCheckpoint, trainer: Any, module: Any) -> None:
        at_epoch_end(self, trainer, module)
        if trainer.current_epoch == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(StackCheckpoint, "on_train_epoch_end", stop)
        assert command("train.py", *QUICK, RATES, "sweep=s").code == 130
    assert [status for status, *_ in ends(4)] == ["interrupted"] * 4
    ended = command("train.py", *HALVED, RATES)
    assert ended.code == 0, ended.err
    found = ends(4)
    assert found[1] == ("completed", 5, None)
    assert all(epochs == 3 for _, epochs, _ in (found[0], *found[2:]))


def test_a_trial_that_is_killed_beyond_a_rung_is_not_called_stopped(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = Phases._train

    def kill(self: Phases, phase: Any) -> None:
        if phase.until == 2:
            monkeypatch.setattr("trialstack.run.train.train", _killed)
        train(self, phase)

    with monkeypatch.context() as patched:
        patched.setattr(Phases, "_train", kill)
        command("train.py", *HALVED, RATES)
    assert [status for status, *_ in ends(4)] == [
        "stopped",
        "interrupted",
        "interrupted",
        "stopped",
    ]


def _killed(*arguments: Any) -> None:
    raise SystemExit(9)


def test_another_launcher_would_not_halve(command: Command) -> None:
    ended = command("train.py", *HALVED, RATES, "hydra/launcher=basic")
    assert ended.code == 2
    assert ended.err.startswith("halving is for hydra/launcher=stacked, got basic")
    assert not FOLDER.exists()


def test_a_single_run_is_not_halved(command: Command) -> None:
    ended = command("train.py", "halving=successive")
    assert ended.code == 2
    assert ended.err.startswith("halving=successive is for sweeps, got a single run; add -m")


def test_a_dry_run_says_how_many_train_how_far(command: Command) -> None:
    ended = command("train.py", *HALVED, "optimizer.lr=range(0.01,0.09,0.01)", "dry_run=true")
    assert (
        "halving: 8 trials to epoch 1, 4 trials to epoch 2, 2 trials to epoch 4, 1 trial to epoch "
        "5: 17 epochs of trials in place of 40"
    ) in ended.out
    assert not FOLDER.exists()


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["halving.factor=1"], "halving.factor must be a whole number of at least 2, got 1"),
        (["halving.rungs=[4,2]"], "halving.rungs must be a list of epochs from 1, each later"),
        (["halving.rungs=[2,5]"], "halving.rungs must be below trainer.max_epochs=5, got [2, 5]"),
        (["halving.min_epochs=5"], "halving.min_epochs must be below trainer.max_epochs=5, got 5"),
        (["halving.min_epochs=0"], "halving.min_epochs must be a whole number of at least 1"),
        (["halving.factor=2,3"], "halving must be the same in all trials"),
        (["trainer.limit_val_batches=0"], "objective=val/acc needs validation"),
        (
            ["trainer.check_val_every_n_epoch=2"],
            "trainer.check_val_every_n_epoch <= 1 must hold (the first rung of halving)",
        ),
    ],
    ids=lambda case: " ".join(case) if isinstance(case, list) else "",
)
def test_halving_that_cannot_be(command: Command, overrides: list[str], says: str) -> None:
    ended = command("train.py", *QUICK, "halving=successive", "sweep=s", RATES, *overrides)
    assert ended.code == 2
    assert says in ended.err, ended.err
    assert not FOLDER.exists()
