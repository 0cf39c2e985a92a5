"""What TensorBoard shows of runs and sweeps, asked of TensorBoard itself."""

import csv
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer
from tensorboard.backend.event_processing.plugin_event_multiplexer import (
    EventMultiplexer as PluginEventMultiplexer,
)
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups

from tests.conftest import Ended
from trialstack.core.objective import MEASURED
from trialstack.sweep.index import Indexed, SweepIndex
from trialstack.sweep.leaderboard import Leaderboard
from trialstack.sweep.tensorboard import CURVES, write_board

Command = Callable[..., Ended]

QUICK = ("model.hidden=[8]", "trainer.max_epochs=2", "callbacks=none")
SWEEP = Path("outputs/sweeps/s")
CURVES_OF_A_RUN = {*MEASURED, "lr"}


def seen(folder: Path) -> EventMultiplexer:
    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(folder))
    multiplexer.Reload()
    return multiplexer


def hparams(folder: Path) -> tuple[list[str], dict[str, Any]]:
    """Return the columns of the HParams page, those that tell trials apart first, and its entries
    by their names.
    """
    statuses = [
        api_pb2.STATUS_UNKNOWN,
        api_pb2.STATUS_SUCCESS,
        api_pb2.STATUS_FAILURE,
        api_pb2.STATUS_RUNNING,
    ]
    multiplexer = PluginEventMultiplexer().AddRunsFromDirectory(str(folder))
    multiplexer.Reload()
    context = backend_context.Context(
        TBContext(data_provider=MultiplexerDataProvider(multiplexer, str(folder)))
    )
    of_runs = context.hparams_metadata(RequestContext(), "")
    experiment = context.experiment_from_metadata(RequestContext(), "", True, of_runs, [])
    request = api_pb2.ListSessionGroupsRequest(
        start_index=0, slice_size=1000, allowed_statuses=statuses
    )
    answer = list_session_groups.Handler(RequestContext(), context, "", request).run()
    return [info.name for info in experiment.hparam_infos], {
        group.name: group for group in answer.session_groups
    }


def metrics(group: Any) -> dict[str, float]:
    return {metric.name.tag: metric.value for metric in group.metric_values}


def written(folder: Path) -> Counter[tuple[str, int]]:
    """Return how often each scalar stands in the folder's event files, by tag and step."""
    events = [
        event for file in folder.glob("events*") for event in EventFileLoader(str(file)).Load()
    ]
    return Counter(
        (value.tag, event.step)
        for event in events
        for value in event.summary.value
        if value.metadata.plugin_data.plugin_name == "scalars"
    )


@pytest.fixture
def run(trained_run: Callable[..., Path]) -> Path:
    return trained_run(*QUICK)


@pytest.fixture
def sweep(trained_sweep: Callable[..., Path]) -> Path:
    """A sweep of four trials, two learning rates and two seeds."""
    return trained_sweep("-m", *QUICK, "sweep=s", "optimizer.lr=0.1,0.01", "seed=1,2")


def test_a_run_has_curves_graph_config_weights_and_mistakes(run: Path) -> None:
    [tags] = seen(run).Runs().values()
    assert set(tags["scalars"]) == CURVES_OF_A_RUN | {"test/loss", "test/acc"}
    assert tags["graph"]
    assert {
        "visuals/first layer weights",
        "visuals/confusion matrix",
        "visuals/most confident mistakes",
    } == set(tags["images"])
    text = seen(run).Tensors(".", "config/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "hidden:" in text


def test_pictures_come_behind_the_metrics(run: Path) -> None:
    [tags] = seen(run).Runs().values()
    assert max(tags["scalars"]) < min(tags["images"])


@pytest.mark.parametrize("engine", ["stacked", "eager"])
def test_every_point_is_written_once(engine: str, command: Command) -> None:
    assert command("train.py", "-m", *QUICK, "sweep=s", f"engine={engine}", "seed=1,2").code == 0
    assert command("train.py", *QUICK, f"engine={engine}", "hydra.run.dir=a").code == 0
    points = {(name, step) for name in CURVES_OF_A_RUN for step in (38, 76)} | {
        ("test/loss", 76),
        ("test/acc", 76),
    }
    for folder in (SWEEP / "0", SWEEP / "1", Path("a")):
        assert written(folder) == dict.fromkeys(points, 1)


def test_hparams_of_a_run_have_its_last_metrics_and_what_makes_a_difference(
    run: Path,
) -> None:
    names, entries = hparams(Path())
    assert {"seed", "optimizer.lr", "data.batch_size", "model.hidden"} <= set(names)
    assert not {"folder", "data.root", "resume"} & set(names)
    entry = entries["run"]
    assert entry.hparams["model.hidden"].string_value == "[8]"
    with (run / "metrics.csv").open(newline="") as file:
        last = list(csv.DictReader(file))[-1]
    tested = json.loads((run / "result.json").read_text())["metrics"]
    expected = {name: float(last[name]) for name in CURVES_OF_A_RUN} | {
        name: tested[name] for name in ("test/loss", "test/acc")
    }
    assert metrics(entry) == pytest.approx(expected)


def test_hparams_have_every_trial_once_wherever_tensorboard_looks(run: Path, sweep: Path) -> None:
    Path("outputs/runs").mkdir()
    run.rename("outputs/runs/a")
    of_sweep = {str(number): (0.1, 0.01)[number // 2] for number in range(4)}
    _, entries = hparams(sweep)
    assert {
        name: entry.hparams["optimizer.lr"].number_value for name, entry in entries.items()
    } == of_sweep
    _, entries = hparams(Path("outputs"))
    assert set(entries) == {"runs/a", *(f"sweeps/s/{name}" for name in of_sweep)}
    for entry in entries.values():
        assert set(metrics(entry)) == CURVES_OF_A_RUN | {"test/loss", "test/acc"}
        assert entry.hparams["optimizer.lr"].number_value > 0


def test_hparams_have_a_run_that_tensorboard_looks_at_alone(run: Path) -> None:
    [entry] = hparams(run)[1].values()
    assert entry.hparams["optimizer.lr"].number_value == 0.01


def test_hparams_that_tell_trials_apart_come_first(sweep: Path) -> None:
    assert hparams(sweep)[0][:2] == ["optimizer.lr", "seed"]


def test_hparams_tell_trials_that_diverged(command: Command) -> None:
    assert command("train.py", "-m", *QUICK, "sweep=s", "optimizer.lr=0.1,1e30").code == 0
    statuses = {name: entry.sessions[0].status for name, entry in hparams(SWEEP)[1].items()}
    assert statuses == {"0": api_pb2.STATUS_SUCCESS, "1": api_pb2.STATUS_FAILURE}


def test_a_sweep_has_a_curve_a_row_the_mean_of_its_trials(sweep: Path) -> None:
    means = seen(sweep / "tensorboard")
    assert set(means.Runs()) == {"01 optimizer.lr=0.1", "02 optimizer.lr=0.01"}
    points = means.Scalars("01 optimizer.lr=0.1", "val/acc")
    assert [point.step for point in points] == [38, 76]
    one, other = (
        [
            float(row["val/acc"])
            for row in csv.DictReader((sweep / name / "metrics.csv").read_text().splitlines())
        ]
        for name in "01"
    )
    expected = [(a + b) / 2 for a, b in zip(one, other, strict=True)]
    assert [point.value for point in points] == pytest.approx(expected)


def swept(
    folder: Path, trials: dict[str, dict[str, Any]], **rows: list[tuple[float, float]]
) -> Leaderboard:
    """Write a sweep's index and, of some trials, losses and accuracies by epoch; return the
    leaderboard.
    """
    index = SweepIndex(folder)
    index.objective = "val/acc"
    for name, values in trials.items():
        index.trials[name] = Indexed({"seed": 1, "objective": "val/acc"} | values, {}, list(values))
    index.write()
    for name, points in rows.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        lines = [
            f"{epoch},{loss},{acc},{loss},{acc}" for epoch, (loss, acc) in enumerate(points, 1)
        ]
        (folder / name / "metrics.csv").write_text(
            "\n".join(["step,train/loss,train/acc,val/loss,val/acc", *lines])
        )
    return Leaderboard(folder)


def test_trials_that_diverged_do_not_stretch_the_mean(tmp_path: Path) -> None:
    for name in "bc":
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").write_text(
            json.dumps({"status": "diverged", "objective": 0.1})
        )
    trials = {"a": {"lr": 0.1, "seed": 1}, "b": {"lr": 0.1, "seed": 2}, "c": {"lr": 9.0, "seed": 1}}
    finite = [(2.0, 0.2), (1.0, 0.4)]
    board = swept(tmp_path, trials, a=finite, b=[(2.0, 0.1), (1e30, 0.1)], c=[(1e30, 0.1)])
    write_board(board, tmp_path / "tensorboard")
    means = seen(tmp_path / "tensorboard")
    assert list(means.Runs()) == ["01 lr=0.1"]
    assert [point.value for point in means.Scalars("01 lr=0.1", "val/loss")] == [2.0, 1.0]


def test_a_sweep_has_no_more_curves_than_tensorboard_ticks(tmp_path: Path) -> None:
    names = [f"t{number}" for number in range(60)]
    trials = {name: {"width": number} for number, name in enumerate(names)}
    board = swept(
        tmp_path, trials, **{name: [(1.0, number / 60)] for number, name in enumerate(names)}
    )
    write_board(board, tmp_path / "tensorboard")
    shown = sorted(path.name for path in (tmp_path / "tensorboard").iterdir())
    assert (len(shown), shown[0], shown[-1]) == (CURVES, "01 width=59", "40 width=20")


def test_values_that_are_no_file_names_have_a_curve_too(tmp_path: Path) -> None:
    values = ["../../x", "a\nb\0", "長い" * 200]
    trials = {str(number): {"model.init": value} for number, value in enumerate(values)}
    board = swept(tmp_path, trials, **{name: [(1.0, 0.5)] for name in trials})
    write_board(board, tmp_path / "tensorboard")
    shown = sorted(path.name for path in (tmp_path / "tensorboard").iterdir())
    assert shown[:2] == ["01 model.init=.._.._x", "02 model.init=a_b_"]
    assert len(shown[2].encode()) < 130
    assert len(list((tmp_path / "tensorboard").rglob("events*"))) == 3
