"""Searches with Optuna: what is suggested, told and found, also after a crash."""

import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

optuna = pytest.importorskip("optuna", minversion="5")

from optuna.storages import JournalStorage  # noqa: E402
from optuna.storages.journal import JournalFileBackend  # noqa: E402
from optuna.trial import TrialState  # noqa: E402

from tests.conftest import Ended  # noqa: E402
from tests.run.test_runs import weights  # noqa: E402
from tests.sweep.test_sweeps import leaderboard, result  # noqa: E402
from trialstack.sweep import search_space  # noqa: E402
from trialstack.sweep.figure import sweep_figure  # noqa: E402
from trialstack.sweep.leaderboard import Leaderboard  # noqa: E402
from trialstack.sweep.phases import Phases  # noqa: E402
from trialstack.sweep.study import cut_tail  # noqa: E402
from trialstack.sweep.told import Told  # noqa: E402

Command = Callable[..., Ended]
Trained = Callable[..., Path]

WHOLE = (
    "-m", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=8", "hydra.sweeper.n_jobs=4",
    "model.hidden=[8]", "trainer.max_epochs=3", "callbacks=none", "logger=none", "test=false",
    "sweep=s",
)  # fmt: skip
SEARCH = (*WHOLE, "halving=successive", "halving.factor=2")
SPACE = ("optimizer.lr=tag(log,interval(0.001,1))", "model.dropout=choice(0.0,0.2)")
FOLDER = Path("outputs/sweeps/s")


def trials(folder: Path = FOLDER) -> list[Any]:
    storage = JournalStorage(JournalFileBackend(str(folder / "study.journal")))
    study = optuna.load_study(study_name=folder.name, storage=storage)
    return list(study.get_trials())


def told(folder: Path = FOLDER) -> list[Any]:
    return [
        (trial.params, trial.state, trial.value, trial.intermediate_values, trial.user_attrs)
        for trial in trials(folder)
    ]


@pytest.fixture
def whole_search(trained_sweep: Trained) -> list[Any]:
    """What the study of a search was told that nobody stopped."""
    folder = trained_sweep(*SEARCH, *SPACE)
    found = told(folder)
    shutil.rmtree(folder)
    return found


def test_a_search_trains_batches_and_tells_what_came_out(command: Command) -> None:
    ended = command("train.py", *SEARCH, *SPACE)
    assert ended.code == 0, ended.err
    assert "batch 2 of 2: 4 trials" in ended.out
    found = trials()
    assert len({trial.params["optimizer.lr"] for trial in found}) == 8
    for number, trial in enumerate(found):
        content = result(number)
        states = {"completed": TrialState.COMPLETE, "stopped": TrialState.PRUNED}
        assert trial.state == states[content["status"]]
        assert trial.user_attrs == {"folder": [str(number)], "status": content["status"]}
        assert len(trial.intermediate_values) == content["epochs"]
        assert max(trial.intermediate_values.values()) == content["objective"]
        assert f"optimizer.lr={trial.params['optimizer.lr']}" in content["overrides"]
    # the first batch fills the space
    rates = sorted(trial.params["optimizer.lr"] for trial in found[:4])
    edges = (10**-2.25, 10**-1.5, 10**-0.75, 1)
    assert all(rate <= edge for rate, edge in zip(rates, edges, strict=True))
    assert {trial.params["model.dropout"] for trial in found[:4]} == {0.0, 0.2}
    axes = sweep_figure(Leaderboard(FOLDER)).subfigs[-1].axes
    assert [part.get_xlabel() for part in axes] == [
        "epoch (dotted: rungs)", "trial", "importance after 1 epoch",
    ]  # fmt: skip
    shown = [label.get_text().replace(".\n", ".") for label in axes[2].get_yticklabels()]
    assert sorted(shown) == ["model.dropout", "optimizer.lr"]

    again = command("train.py", *SEARCH, *SPACE)
    assert again.code == 0, again.err
    assert len(trials()) == 8
    more = command("train.py", *SEARCH, *SPACE, "hydra.sweeper.n_trials=10")
    assert more.code == 0, more.err
    assert len(trials()) == 10


def test_the_best_one_is_trained_again_by_the_command_that_is_said(command: Command) -> None:
    ended = command("train.py", *SEARCH, *SPACE, "trainer.precision=64-true")
    said = next(line for line in ended.out.splitlines() if "the best one again: python" in line)
    script, *arguments = said.partition("python ")[2].split()
    assert command(script, *arguments, "hydra.run.dir=again").code == 0
    best = leaderboard()[0]["trials"]
    for mine, other in zip(
        weights(Path("again")).values(), weights(FOLDER / best).values(), strict=True
    ):
        torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-12)


def test_a_search_that_was_stopped_suggests_what_it_would_have(
    command: Command, monkeypatch: pytest.MonkeyPatch, whole_search: list[Any]
) -> None:
    calls = 0
    train = Phases._train

    def stop(self: Phases, *arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 4:  # in the second batch
            raise KeyboardInterrupt
        train(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Phases, "_train", stop)
        assert command("train.py", *SEARCH, *SPACE).code == 130
    assert sum(trial.state == TrialState.RUNNING for trial in trials()) == 4
    assert command("train.py", *SEARCH, *SPACE).code == 0
    assert told() == whole_search


@pytest.mark.parametrize("telling", [2, 6])
def test_a_search_that_was_stopped_while_it_told_goes_on(
    telling: int, command: Command, monkeypatch: pytest.MonkeyPatch, whole_search: list[Any]
) -> None:
    calls = 0
    tell = Told.tell

    def stop(self: Told, *others: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == telling:
            raise KeyboardInterrupt
        tell(self, *others)

    with monkeypatch.context() as patched:
        patched.setattr(Told, "tell", stop)
        assert command("train.py", *SEARCH, *SPACE).code == 130
    assert sum(trial.state == TrialState.RUNNING for trial in trials()) == 3
    assert command("train.py", *SEARCH, *SPACE).code == 0
    assert told() == whole_search


@pytest.mark.parametrize("suggestion", [3, 7])
def test_a_search_that_was_stopped_while_it_asked_goes_on(
    suggestion: int, command: Command, monkeypatch: pytest.MonkeyPatch, whole_search: list[Any]
) -> None:
    calls = 0
    suggest = search_space._suggest

    def stop(trial: Any, key: str, *others: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 2 * suggestion:  # one of its two parameters is there
            raise KeyboardInterrupt
        suggest(trial, key, *others)

    with monkeypatch.context() as patched:
        patched.setattr(search_space, "_suggest", stop)
        assert command("train.py", *SEARCH, *SPACE).code == 130
    assert len(trials()) == suggestion
    assert command("train.py", *SEARCH, *SPACE).code == 0
    assert told() == whole_search


def test_what_a_killed_process_has_begun_to_write_is_cut_off(tmp_path: Path) -> None:
    journal = tmp_path / "study.journal"
    for tail in ('{"op_co', "rubbish\n"):
        journal.write_text('{"op_code": 0}\n{"op_code": 1}\n' + tail)
        cut_tail(tmp_path)
        assert journal.read_text() == '{"op_code": 0}\n{"op_code": 1}\n'


def test_a_damaged_journal_is_made_anew_from_the_trials(command: Command) -> None:
    command("train.py", *SEARCH, *SPACE, "model.activation=choice(relu,tanh)")
    before = told()
    (FOLDER / "study.journal").write_text("{not a journal\n")
    dry = command("train.py", *SEARCH, *SPACE, "model.activation=choice(relu,tanh)", "dry_run=true")
    assert "the search has all of its 8 trials" in dry.out
    assert (FOLDER / "study.journal").read_text() == "{not a journal\n"
    ended = command("train.py", *SEARCH, *SPACE, "model.activation=choice(relu,tanh)")
    assert ended.code == 0, ended.err
    assert "8 trials are read from their folders again" in ended.out
    assert told() == before
    assert (FOLDER / "study.journal.damaged").exists()


def test_repeats_are_a_row_and_are_told_as_their_mean(command: Command) -> None:
    ended = command("train.py", *SEARCH, *SPACE, "hydra.sweeper.repeats=2", "seed=5")
    assert ended.code == 0, ended.err
    assert len(leaderboard()) == 8
    assert [result(number)["overrides"][-1] for number in (0, 1)] == ["seed=5", "seed=6"]
    for number, trial in enumerate(trials()):
        seeds = [result(2 * number + seed) for seed in (0, 1)]
        assert len({(seed["status"], seed["epochs"]) for seed in seeds}) == 1
        if trial.state == TrialState.COMPLETE:
            mean = sum(seed["objective"] for seed in seeds) / 2
            assert trial.value == pytest.approx(mean)


@pytest.mark.parametrize("sampler", ["random", "sobol", "cmaes", "gp"])
def test_samplers_by_name(command: Command, sampler: str) -> None:
    if sampler == "cmaes":
        pytest.importorskip("cmaes")
    options = (f"hydra/sweeper/sampler={sampler}", "trainer.max_epochs=1")
    ended = command("train.py", *WHOLE, *SPACE, *options)
    assert ended.code == 0, ended.err
    assert len({trial.params["optimizer.lr"] for trial in trials()}) == 8


def test_what_diverged_or_failed_is_told_as_such(command: Command) -> None:
    options = ("hydra.sweeper.max_failure_rate=1.0", "hydra.sweeper.n_trials=4")
    ended = command("train.py", *WHOLE, "optimizer.lr=choice(0.1,1e37)", *options)
    assert ended.code == 0, ended.err
    for trial in trials():
        diverged = trial.params["optimizer.lr"] == 1e37
        assert trial.user_attrs["status"] == ("diverged" if diverged else "completed")
        assert trial.state == (TrialState.PRUNED if diverged else TrialState.COMPLETE)


def conditional(config: Any, trial: Any) -> None:
    if trial.params["model.dropout"] > 0:
        trial.suggest_float("optimizer.weight_decay", 1e-6, 1e-2, log=True)


def test_a_space_of_the_users_own(command: Command) -> None:
    custom = "hydra.sweeper.custom_search_space=tests.sweep.test_search.conditional"
    assert command("train.py", *SEARCH, *SPACE, custom).code == 0
    for trial in trials():
        assert ("optimizer.weight_decay" in trial.params) == (trial.params["model.dropout"] > 0)


def test_a_dry_run_plans_the_first_batch_and_writes_nothing(command: Command) -> None:
    ended = command("train.py", *SEARCH, *SPACE, "dry_run=true")
    assert ended.code == 0, ended.err
    assert "0 of 2 batches are trained, this is the next one of a search of 8 trials" in ended.out
    [whole] = re.findall(r"about (\d+) s of training are left", ended.out)
    [batch] = re.findall(r"about (\d+) s of training, at most", ended.out)
    assert abs(int(whole) - 2 * int(batch)) <= 2
    assert "halving: 4 trials to epoch 1, 2 trials to epoch 2" in ended.out
    assert not FOLDER.exists()


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["optimizer.lr=interval(1,0.1)"], "must begin with the lower number, got 1"),
        (["optimizer.lr=tag(log,interval(0,1))"], "must be above 0 for tag(log, ...), got 0"),
        (["hydra.sweeper.n_trials=0"], "hydra.sweeper.n_trials must be a whole number of at least"),
        (["hydra.sweeper.sampler=nothing"], "hydra.sweeper.sampler is a group, got 'nothing'"),
        (["+hydra.sweeper.trials=3"], "nothing reads hydra.sweeper.trials"),
        (["hydra.sweeper.repeats=2", "seed=3,4"], "takes the seeds from seed=1 on, got several"),
        (["hydra.sweeper.direction=up"], "must be maximize for objective=val/acc, got up; leave"),
        (["seed=3,4"], "seed must be the same in all trials of a search, got several; use hydra"),
        (["model.dropout=interval(0,1.05)"], "but not including, 1, got 1.05; move that end"),
        (["data.batch_size=interval(8,64)"], "got 8.0; use range(...) of whole numbers"),
        (["hydra.sweeper.custom_search_space=no.such"], "cannot be imported"),
        (["optimizer.lr=-1,-2", "model.dropout=0.1"], "optimizer.lr must be"),
        (["sweep=a,b"], "sweep must be the same in all trials of a search, got several"),
        (["halving.factor=2,4"], "halving.factor must be the same in all trials of a search"),
        (["hydra.sweeper.n_jobs=1"], "halving=successive needs several trials in a batch, got 1"),
    ],
    ids=lambda case: " ".join(case) if isinstance(case, list) else "",
)
def test_a_search_that_cannot_be(command: Command, overrides: list[str], says: str) -> None:
    ended = command("train.py", *SEARCH, *SPACE, *overrides)
    assert ended.code == 2, ended.err
    assert says in ended.err
    assert not FOLDER.exists()


def test_a_study_of_another_space_is_refused(command: Command, trained_sweep: Trained) -> None:
    trained_sweep(*SEARCH, *SPACE)
    ended = command("train.py", *SEARCH, "optimizer.lr=choice(0.1,0.2)")
    assert ended.code == 2
    assert "of optimizer.lr they have 0.001 to 1, log, got choice(0.1, 0.2)" in ended.err
    dry = command("train.py", *SEARCH, *SPACE, "hydra.sweeper.n_trials=10", "dry_run=true")
    assert "batch 3 of 3: 2 trials in outputs/sweeps/s: 2 new" in dry.out
    done = command("train.py", *SEARCH, *SPACE, "dry_run=true")
    assert "the search has all of its 8 trials" in done.out
    assert len(trials()) == 8


def test_nothing_to_search_in(command: Command) -> None:
    ended = command("train.py", *SEARCH)
    assert ended.code == 2
    assert "a search needs something to search in" in ended.err


def test_without_optuna_it_is_said_what_to_install(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    ended = command("train.py", *SEARCH, *SPACE)
    assert ended.code == 2
    assert "pip install 'trialstack[search]'" in ended.err
