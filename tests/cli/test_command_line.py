"""Arguments of the commands: options stand anywhere among overrides."""

from collections.abc import Callable

import pytest

from tests.conftest import Ended
from trialstack.core.hydra_internals import overrides_last


@pytest.mark.parametrize(
    ("arguments", "in_order"),
    [
        (["a=1", "-m", "b=2"], ["-m", "a=1", "b=2"]),
        (
            ["a=1", "--cfg", "job", "b=2", "--resolve", "~c"],
            ["--cfg", "job", "--resolve", "a=1", "b=2", "~c"],
        ),
        (
            ["--config-dir=conf", "a=1", "-p", "a", "b=2"],
            ["--config-dir=conf", "-p", "a", "a=1", "b=2"],
        ),
        (["a=1", "b=2"], ["a=1", "b=2"]),
        (["-m"], ["-m"]),
        ([], []),
    ],
)
def test_overrides_keep_their_order_behind_the_options(
    arguments: list[str], in_order: list[str]
) -> None:
    assert overrides_last(arguments) == in_order


def test_a_sweep_is_asked_for_between_overrides(command: Callable[..., Ended]) -> None:
    ended = command(
        "train.py", "model=mlp300", "-m", "optimizer.lr=0.1,0.01", "seed=1,2", "dry_run=true"
    )
    assert ended.code == 0, ended.err
    assert ended.out.startswith("sweep of 4 trials in")


@pytest.mark.parametrize(
    "script", ["train.py", "evaluate.py", "predict.py", "export.py", "report.py", "verify.py"]
)
def test_every_command_takes_options_between_overrides(
    script: str, command: Callable[..., Ended]
) -> None:
    ended = command(script, "+first=1", "--cfg", "job", "+second=2")
    assert ended.code == 0, ended.err
    assert "first: 1\nsecond: 2\n" in ended.out


def test_a_run_is_continued_with_options_between_overrides(
    trained_run: Callable[..., object], command: Callable[..., Ended]
) -> None:
    trained_run("trainer.max_epochs=1", "model.hidden=[]", "logger=none")
    ended = command("train.py", "resume=run", "--run", "trainer.max_epochs=2")
    assert ended.code == 0, ended.err
    assert "epoch 2/2" in ended.out
