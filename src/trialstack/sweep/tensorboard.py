"""A sweep in TensorBoard: a curve a row of the leaderboard, the mean of its trials.

The trials' own folders hold their curves, and what HParams shows of them. A trial is there once,
and this is no trial: so HParams has each trial once wherever TensorBoard looks. And of a thousand
trials, those are more than it can draw.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from statistics import fmean

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from trialstack.core import layout
from trialstack.core.identity import shown
from trialstack.run.metrics_csv import metrics, read_rows
from trialstack.run.status import Status
from trialstack.sweep.leaderboard import Leaderboard, Row

CURVES = 40
"""Rows that have a curve: the best ones. Of more runs, TensorBoard's Scalars page ticks none."""

LONGEST = 120
"""Bytes of a curve's name."""


def write_board(leaderboard: Leaderboard, folder: Path) -> None:
    """Write event files of a sweep into `folder`."""
    for rank, row in enumerate(leaderboard.rows[:CURVES], 1):
        means = list(_means(leaderboard.folder, row))
        if means:
            _write(folder / f"{rank:02} {_name(row)}".rstrip(), means)


def _name(row: Row) -> str:
    """The row's values as the name of a folder."""
    name = " ".join(f"{key}={shown(item)}" for key, item in row.values.items())
    clean = "".join(letter if letter.isprintable() and letter != "/" else "_" for letter in name)
    return clean.encode()[:LONGEST].decode(errors="ignore")


def _means(folder: Path, row: Row) -> Iterator[Event]:
    """The mean of every metric over the trials of a row that did not diverge, against optimizer
    steps.
    """
    steps: dict[int, list[Mapping[str, float]]] = {}
    for entry in row.entries:
        if entry.status != Status.DIVERGED:
            for measured in read_rows(folder / entry.name / layout.METRICS):
                steps.setdefault(int(measured["step"]), []).append(measured)
    for step, rows in sorted(steps.items()):
        means = {tag: fmean(row[tag] for row in rows if tag in row) for tag in metrics(rows)}
        scalars = [Summary.Value(tag=tag, simple_value=mean) for tag, mean in means.items()]
        yield Event(summary=Summary(value=scalars), step=step)


def _write(folder: Path, events: Iterable[Event]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"events.out.tfevents.{int(time.time())}.sweep").open("wb") as file:
        writer = RecordWriter(file)
        for event in (Event(file_version="brain.Event:2"), *events):
            event.wall_time = time.time()
            writer.write(event.SerializeToString())
        writer.flush()
