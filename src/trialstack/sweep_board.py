"""A sweep in TensorBoard: all trials in HParams, and a curve a row of the leaderboard, the mean of its trials.

The trials' own folders hold all curves of each; of a thousand trials, those are more than TensorBoard can show.
"""

import csv
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import summary_v2 as hp  # `api` needs TensorFlow
from tensorboard.plugins.hparams.api_pb2 import Status
from tensorboard.plugins.hparams.metadata import NULL_TENSOR, SESSION_END_INFO_TAG, create_summary_metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo
from tensorboard.summary.writer.record_writer import RecordWriter

from trialstack.leaderboard import Entry, Leaderboard, Row
from trialstack.objective import OBJECTIVES

CURVES = 50
"""Rows that have a curve: the best ones."""

_STATUSES = {"completed": Status.STATUS_SUCCESS, "diverged": Status.STATUS_FAILURE, "failed": Status.STATUS_FAILURE}


def write_board(leaderboard: Leaderboard, folder: Path) -> None:
    """Write event files of a sweep into `folder`."""
    keys = [*leaderboard.keys, "seed"]
    for entry in leaderboard.entries:
        if entry.status != "waiting":
            _write(folder / "trials" / entry.name, _session(entry, keys, leaderboard.objective))
    for rank, row in enumerate(leaderboard.rows[:CURVES], 1):
        name = " ".join(f"{key}={_plain(item)}" for key, item in row.values.items()).replace("/", "_")
        _write(folder / "means" / f"{rank:02} {name}", _curves(leaderboard.folder, row))


def _session(entry: Entry, keys: Iterable[str], objective: str) -> Iterator[Event]:
    """A trial's hyperparameters, status, and final metrics under tags of their own, apart from the curves."""
    yield Event(summary=hp.hparams_pb({key: _plain(entry.trial.value(key)) for key in keys}))
    yield Event(summary=_scalars({f"hp/{objective}": entry.objective, "hp/test/acc": entry.test}))
    yield Event(summary=_end(_STATUSES.get(entry.status, Status.STATUS_RUNNING)))


def _end(status: int) -> Summary:
    content = HParamsPluginData(session_end_info=SessionEndInfo(status=status, end_time_secs=time.time()))
    described = create_summary_metadata(content)
    return Summary(value=[Summary.Value(tag=SESSION_END_INFO_TAG, metadata=described, tensor=NULL_TENSOR)])


def _curves(folder: Path, row: Row) -> Iterator[Event]:
    """The mean of every metric over the trials of a row, against optimizer steps."""
    steps: dict[int, list[Mapping[str, str]]] = {}
    for entry in row.entries:
        for measured in _rows(folder / entry.name / "metrics.csv"):
            steps.setdefault(int(measured["step"]), []).append(measured)
    for step, rows in sorted(steps.items()):
        means = {tag: fmean(there) for tag in OBJECTIVES if (there := [float(row[tag]) for row in rows if row[tag]])}
        yield Event(summary=_scalars(means), step=step)


def _rows(file: Path) -> list[dict[str, str]]:
    try:
        with file.open(newline="") as opened:
            return list(csv.DictReader(opened))
    except FileNotFoundError:
        return []


def _scalars(values: Mapping[str, float | None]) -> Summary:
    there = {tag: number for tag, number in values.items() if number is not None}
    return Summary(value=[Summary.Value(tag=tag, simple_value=number) for tag, number in there.items()])


def _write(folder: Path, events: Iterable[Event]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"events.out.tfevents.{int(time.time())}.sweep").open("wb") as file:
        writer = RecordWriter(file)
        for event in (Event(file_version="brain.Event:2"), *events):
            event.wall_time = time.time()
            writer.write(event.SerializeToString())
        writer.flush()


def _plain(item: Any) -> Any:
    return item if isinstance(item, (bool, int, float, str)) else json.dumps(item)
