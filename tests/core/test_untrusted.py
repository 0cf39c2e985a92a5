"""Files that are damaged, or another's: one line names each, and what does not depend on it goes
on.
"""

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from tests.conftest import Ended
from trialstack.core.errors import UserError
from trialstack.core.untrusted import Damaged, conforms, text
from trialstack.run.folder import read_config, write_config
from trialstack.run.metrics_csv import read_rows
from trialstack.run.result import Result
from trialstack.run.status import Status
from trialstack.sweep.index import Indexed, SweepIndex
from trialstack.sweep.leaderboard import Leaderboard
from trialstack.sweep.tensorboard import write_board

Command = Callable[..., Ended]
FOLDER = Path("outputs/sweeps/s")
METRICS = "epoch,step,train/loss,train/acc,val/loss,val/acc,lr,seconds\n"


@pytest.fixture
def sweep(command: Command) -> Path:
    """A sweep of three trials, of which the last has no result yet; nothing of it was trained."""
    index = SweepIndex(FOLDER)
    index.objective = "val/acc"
    for seed in range(3):
        content = {"seed": seed, "optimizer.lr": 0.1, "objective": "val/acc"}
        index.trials[str(seed)] = Indexed(content, {"model": "mlp300"}, ["seed"])
        (FOLDER / str(seed)).mkdir(parents=True)
        rows = f"1,38,0.5,0.8,0.4,0.{7 + seed},0.1,1.0\n"
        (FOLDER / str(seed) / "metrics.csv").write_text(METRICS + rows)
    index.write()
    for seed in range(2):
        folder, score = FOLDER / str(seed), 0.7 + seed / 10
        Result(folder, Status.COMPLETED, objective=score, metrics={"val/acc": score}).write(folder)
    return FOLDER


def put(file: Path, content: bytes | Callable[[Path], None]) -> None:
    file.unlink(missing_ok=True)
    if callable(content):
        content(file)
    else:
        file.write_bytes(content)


def changed(**values: Any) -> bytes:
    return json.dumps({"status": "completed", "objective": 0.7, **values}).encode()


UNREADABLE: list[bytes | Callable[[Path], None]] = [
    b"",
    b"{",
    b"\xff\xfe",
    b"[1, 2]",
    b"5",
    b"[" * 100_000,
    b'{"a":' * 100_000,
    Path.mkdir,
    os.mkfifo,
    lambda file: file.symlink_to("/dev/zero"),
    lambda file: os.truncate(os.open(file, os.O_CREAT | os.O_WRONLY), 2**30),
]
WRONG = [
    b"{}",
    changed(status=["a"]),
    changed(status="done"),
    changed(reason=5),
    changed(objective="0.7"),
    changed(objective=True),
    changed(objective=float("nan")),
    changed(objective=10**400),
    changed(metrics={"val/acc": "0.7"}),
    changed(metrics=[0.7]),
    changed(seconds=None),
    changed(seconds={"total": "long"}),
    changed(stack_size=0),
    changed(stack_size=1.5),
    changed(overrides="seed=1"),
]


@pytest.mark.parametrize("content", [*UNREADABLE, *WRONG])
def test_a_trial_with_a_damaged_result_counts_as_without_it(
    content: bytes | Callable[[Path], None], sweep: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(sweep / "0/result.json", content)
    assert [entry.status for entry in Leaderboard(sweep).entries] == [
        "unfinished",
        "completed",
        "unfinished",
    ]
    [warning] = caplog.messages
    assert warning.startswith(f"{sweep}/0/result.json ")
    assert warning.endswith("; the trial counts as without it")
    assert "\n" not in warning


def test_the_leaderboard_of_trials_with_damaged_files_has_the_others(
    sweep: Path, command: Command
) -> None:
    put(sweep / "0/result.json", changed(status=["a"]))
    put(sweep / "2/metrics.csv", b"epoch,step,val/acc\n1,nan,0.7\n")
    ended = command("report.py", "sweep=s")
    assert ended.code == 0, ended.err
    assert "0.7000 to 0.8000" in ended.out  # of 0 and 1
    for name in ("0/result.json", "2/metrics.csv"):
        assert len([line for line in (ended.out + ended.err).splitlines() if name in line]) == 1


@pytest.mark.parametrize(
    "content",
    [
        *UNREADABLE[2:3],
        *UNREADABLE[7:],
        b"epoch,step,val/acc\nx,38,0.7\n",
        b"epoch,step,val/acc\n1,nan,0.7\n",
        b"epoch,step,val/acc\n1,-38,0.7\n",
        b"epoch,step,val/acc\n1,1e30,0.7\n",
        b"epoch,step,val/acc\n1,38,good\n",
        b"epoch,step,val/acc\n1,38,-1e308\n",
        b"epoch,step,val/acc\n1,38,0.7,5\n",
        b"val/acc\n0.7\n",
        b"epoch,step,val/acc\n1,38," + b"7" * 200_000,
    ],
)
def test_epochs_that_are_damaged_do_not_count(
    content: bytes | Callable[[Path], None], sweep: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(sweep / "2/metrics.csv", content)
    leaderboard = Leaderboard(sweep)
    write_board(leaderboard, sweep / "board")
    assert [entry.status for entry in leaderboard.entries] == ["completed", "completed", "waiting"]
    [warning] = caplog.messages
    assert warning.startswith(f"{sweep}/2/metrics.csv ")


def test_of_a_damaged_metrics_csv_the_rows_that_can_be_read_count(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "metrics.csv"
    file.write_text("epoch,step,train/loss,val/acc\n1,38,0.5,\n2,76\n3,114,nan,0.8\n")
    first, last = read_rows(file)
    assert first == {"epoch": 1, "step": 38, "train/loss": 0.5}
    assert last == {
        "epoch": 3,
        "step": 114,
        "train/loss": pytest.approx(math.nan, nan_ok=True),
        "val/acc": 0.8,
    }
    assert (
        f"{os.path.relpath(file)} is damaged in line 3; the rows that can be read count"
        in caplog.text
    )


def test_numbers_at_the_edge_of_what_is_believed_are_shown(sweep: Path, command: Command) -> None:
    for name, value in (("0", 1e150), ("1", -1e150)):
        put(sweep / name / "result.json", changed(objective=value, metrics={"test/acc": value}))
        (sweep / name / "metrics.csv").write_text(
            METRICS + f"1,38,inf,nan,{value},{value},0.1,1.0\n"
        )
    ended = command("report.py", "sweep=s")
    assert ended.code == 0, ended.err


INDEX = (
    b'{"objective": "val/acc", "common": {"content": {}, "choices": {}}, '
    b'"trials": {"0": {"content": {"x": %s}, "choices": {}, "overrides": []}}}'
)


@pytest.mark.parametrize(
    "content",
    [
        *UNREADABLE,
        b"{}",
        b'{"objective": ["val/acc"], "common": {"content": {}, "choices": {}}, "trials": {}}',
        b'{"objective": "best", "common": {"content": {}, "choices": {}}, "trials": {}}',
        b'{"objective": "val/acc", "common": {"content": {}}, "trials": {"0": {}}}',
        b'{"objective": "val/acc", "common": [], "trials": {}}',
        b'{"objective": "val/acc", "common": {"content": {}, "choices": {}}, "trials": {"0": 5}}',
        b'{"objective": "val/acc", "common": {"content": {}, "choices": {"model": 5}}, '
        b'"trials": {}}',
        b'{"objective": "val/acc", "common": {"content": {"x": '
        + b"[" * 200
        + b"]" * 200
        + b'}, "choices": {}}, '
        b'"trials": {"0": {"content": {}, "choices": {}, "overrides": []}}}',
        b'{"objective": "val/acc", "common": {"content": {}, "choices": {}}, "trials": {}}',
        INDEX % b'"\\ud800"',
        INDEX % (b"1" + b"0" * 400),
        INDEX % (b"1" * 10_000),
    ],
)
def test_a_damaged_index_is_one_line(content: bytes | Callable[[Path], None], sweep: Path) -> None:
    put(sweep / "sweep.json", content)
    with pytest.raises(UserError, match=f"{sweep}/sweep.json .*; restore it from a copy") as caught:
        Leaderboard(sweep)
    assert "\n" not in str(caught.value)


def test_any_values_of_a_key_are_shown(sweep: Path, command: Command) -> None:
    index = SweepIndex.read(sweep)
    for name, value in (("0", "[/a]"), ("1", "[red]b"), ("2", math.inf)):
        index.trials[name].content.update(
            {"model.x": value, "model.y": [1.0, math.inf, 2.0][int(name)]}
        )
        index.trials[name].overrides.extend(["model.x", "model.y"])
    index.write()
    ended = command("report.py", "sweep=s")
    assert ended.code == 0, ended.err
    assert all(value in ended.out for value in ("[/a]", "[red]b", "inf")), ended.out


def test_a_sweep_goes_on_past_a_damaged_result(command: Command) -> None:
    sweep = ["-m", "seed=1,2", "trainer.max_epochs=1", "model.hidden=[8]", "logger=none", "sweep=s"]
    assert command("train.py", *sweep).code == 0
    before = json.loads((FOLDER / "0/result.json").read_text())
    put(FOLDER / "0/result.json", changed(status=["completed"]))
    ended = command("train.py", *sweep)
    assert ended.code == 0, ended.err
    assert "0/result.json has a wrong value of status; the trial counts as without it" in ended.out
    after = json.loads((FOLDER / "0/result.json").read_text())
    assert (after["status"], after["metrics"]) == ("completed", before["metrics"])


BOMB = "a0: &a0 [x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)
GROUPS = ("data", "model", "optimizer", "schedule", "loss", "metrics", "trainer")
EMPTY = "".join(f"{group}: {{}}\n" for group in GROUPS)


@pytest.mark.parametrize(
    "content",
    [
        *UNREADABLE[2:3],
        *UNREADABLE[7:],
        (EMPTY + BOMB).encode(),
        (EMPTY + "x: " + "[" * 200_000).encode(),
        (EMPTY + "x: " + "{a: " * 1000 + "1" + "}" * 1000).encode(),
        (EMPTY + "x:\n" + "- 1\n" * 20_000).encode(),
        (EMPTY + "x: 1" + ":1" * 200_000).encode(),
        b"data: {\n",
        b"data: 5\nmodel: []\n",
        b"- data\n",
        b"",
    ],
)
def test_a_config_that_is_no_runs_is_one_line(
    content: bytes | Callable[[Path], None], command: Command
) -> None:
    Path("run/.hydra").mkdir(parents=True)
    put(Path("run/.hydra/config.yaml"), content)
    with pytest.raises(UserError, match=r"run/\.hydra/config\.yaml ") as caught:
        read_config(Path("run"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [BOMB.encode(), b"{a: 1}", b"[[1]]", os.mkfifo])
def test_overrides_that_are_no_runs_are_one_line(
    content: bytes | Callable[[Path], None], command: Command
) -> None:
    write_config(Path("run"), OmegaConf.create({group: {} for group in GROUPS}), [])
    put(Path("run/.hydra/overrides.yaml"), content)
    ended = command("train.py", "resume=run")
    assert (ended.code, len(ended.err.splitlines())) == (2, 1), ended.err
    assert "run/.hydra/overrides.yaml " in ended.err


@pytest.mark.parametrize(
    ("value", "kind", "holds"),
    [
        (1, int, True),
        (True, int, False),
        (1, float, True),
        (1e151, float, False),
        (float("nan"), float, False),
        (None, str | None, True),
        ([1], str | None, False),
        (["a", 1], list[str], False),
        ({"a": 1.0, "b": None}, dict[str, float | None], True),
        ({"a": [1, {"b": 2}]}, dict[str, Any], True),
    ],
)
def test_types_are_those_of_the_annotations(value: Any, kind: Any, holds: bool) -> None:
    assert conforms(value, kind) is holds


def test_no_more_is_read_than_there_may_be(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("12345")
    assert text(tmp_path / "a", 5) == "12345"
    with pytest.raises(Damaged, match="is larger than 4 bytes"):
        text(tmp_path / "a", 4)
