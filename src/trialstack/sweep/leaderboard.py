"""The leaderboard of a sweep: its trials by objective, those that differ in their seed alone as one
row.
"""

import csv
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from rich import box
from rich.table import Table

from trialstack.core import layout
from trialstack.core.atomic_files import replaced
from trialstack.core.identity import shown
from trialstack.core.objective import direction, improves, rounded
from trialstack.run.metrics_csv import read_rows
from trialstack.run.result import Result
from trialstack.sweep.index import Indexed, SweepIndex, varying

SHOWN = 20
"""Rows on the terminal."""


@dataclass(frozen=True)
class Entry:
    """A trial of a sweep, as far as it has come.

    Attributes:
        name: of its folder.
        trial: its config.
        status: as in `result.json`; without one `unfinished` if it has begun, else `waiting`.
        objective: of its best epoch so far.
        tested: metrics of the test set.
        seconds: its share of its stack's time.
        reason: why it is not completed, or ended early.
        epochs: that were trained.
        rung: number of the rung at which it was stopped.
    """

    name: str
    trial: Indexed
    status: str
    objective: float | None = None
    tested: Mapping[str, float] = field(default_factory=dict)
    seconds: float | None = None
    reason: str | None = None
    epochs: int | None = None
    rung: int | None = None

    @classmethod
    def read(cls, folder: Path, name: str, trial: Indexed, objective: str) -> "Entry":
        """Return the entry of the trial in `folder / name`."""
        result = Result.read(folder / name)
        if result is None:
            best = _best(folder / name / layout.METRICS, objective)
            begun = best is not None or (folder / name / layout.HYDRA).exists()
            return cls(name, trial, "unfinished" if begun else "waiting", best)
        seconds = result.seconds.get("total")
        share = (
            None
            if seconds is None
            else seconds / result.stack_size + result.seconds.get("earlier", 0.0)
        )
        own = trial.content.get("objective") == objective
        return cls(
            name,
            trial,
            result.status,
            result.objective if own else result.metrics.get(objective),
            {name: x for name, x in result.metrics.items() if name.startswith("test/")},
            share,
            result.reason,
            result.epochs,
            result.rung,
        )


@dataclass(frozen=True)
class Row:
    """Trials that differ in their seed alone.

    Attributes:
        values: of the keys that vary in the sweep.
        entries: best first.
        mean: of the objectives that there are.
        interval: half the width of the mean's 95% confidence interval (Student's t); None with
            fewer than three, of which it says less than their range.
        extent: what is shown beside the mean: from end to end of the interval, or of two objectives
            the range.
        count: how many objectives there are.
    """

    values: dict[str, Any]
    entries: list[Entry]
    mean: float | None
    interval: float | None
    extent: tuple[float, float] | None
    count: int

    @property
    def status(self) -> str:
        counts = Counter(entry.status for entry in self.entries)
        return (
            next(iter(counts))
            if len(counts) == 1
            else ", ".join(f"{n} {name}" for name, n in counts.most_common())
        )

    @property
    def epochs(self) -> int | None:
        """That its trials were trained at most."""
        return max((entry.epochs for entry in self.entries if entry.epochs), default=None)

    @property
    def rung(self) -> int | None:
        return max((entry.rung for entry in self.entries if entry.rung), default=None)

    def test(self, name: str) -> float | None:
        """Return the mean of a metric of the test set."""
        return _mean(entry.tested.get(name) for entry in self.entries)

    @property
    def seconds(self) -> float | None:
        return _mean(entry.seconds for entry in self.entries)


class Leaderboard:
    """What has come out of a sweep so far.

    Attributes:
        folder: of the sweep.
        objective: what it is sorted by.
        entries: in the order of their folders.
        tested: metric of the test set that is shown: the objective's, in a loss's place accuracy.
        keys: that vary, without the seed.
        rows: best first, those without an objective last.
    """

    def __init__(self, folder: Path) -> None:
        index = SweepIndex.read(folder)
        self.folder = folder
        self.objective = index.objective
        self.entries = [
            Entry.read(folder, name, trial, index.objective) for name, trial in index.trials.items()
        ]
        there = {name for entry in self.entries for name in entry.tested}
        metric = index.objective.rpartition("/")[2]
        has_accuracy = "test/acc" in there or not there
        self.tested = "test/acc" if metric == "loss" and has_accuracy else f"test/{metric}"
        self.keys = varying(list(index.trials.values()))
        rows: dict[str, list[Entry]] = {}
        for entry in self.entries:
            rows.setdefault(json.dumps([entry.trial.value(key) for key in self.keys]), []).append(
                entry
            )
        self.rows = sorted(
            (self._row(entries) for entries in rows.values()), key=lambda row: self._rank(row.mean)
        )

    def _row(self, entries: list[Entry]) -> Row:
        entries = sorted(entries, key=lambda entry: self._rank(entry.objective))
        scores = [entry.objective for entry in entries if entry.objective is not None]
        values = {key: entries[0].trial.value(key) for key in self.keys}
        mean, interval = _mean(scores), _interval(scores)
        extent = (min(scores), max(scores)) if len(scores) == 2 else None
        if mean is not None and interval is not None:
            extent = (mean - interval, mean + interval)
        return Row(values, entries, mean, interval, extent, len(scores))

    def _rank(self, score: float | None) -> float:
        if score is None:
            return math.inf
        return score if direction(self.objective) == "min" else -score

    @property
    def best(self) -> Entry | None:
        """The best trial of the first row; None if no trial has an objective."""
        first = self.rows[0].entries[0] if self.rows else None
        return None if first is None or first.objective is None else first

    def table(self) -> Table:
        """Return the best rows for the terminal."""
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name, justify in self._columns():
            table.add_column(name, justify=justify, overflow="fold")
        for rank, row in enumerate(self.rows[:SHOWN], 1):
            table.add_row(*self._cells(rank, row))
        if len(self.rows) > SHOWN:
            table.caption = f"and {len(self.rows) - SHOWN} more rows in leaderboard.csv"
        return table

    def _columns(self) -> list[tuple[str, Any]]:
        epochs = ["epochs"] if self.is_halved else []
        right = [*self.keys, self.objective, "n", *epochs, self.tested, "s/trial"]
        return [
            ("", "right"),
            *((name, "right") for name in right),
            ("status", "left"),
            ("trials", "left"),
        ]

    @property
    def is_halved(self) -> bool:
        """Whether rows were stopped at rungs."""
        return any(row.rung for row in self.rows)

    def _cells(self, rank: int, row: Row) -> list[str]:
        return [
            str(rank),
            *map(shown, row.values.values()),
            _score(row),
            str(row.count),
            *([shown(row.epochs or 0)] if self.is_halved else []),
            "" if (tested := row.test(self.tested)) is None else rounded(tested),
            "" if row.seconds is None else f"{row.seconds:.2f}",
            row.status + (f" (rung {row.rung})" if row.rung else ""),
            " ".join(entry.name for entry in row.entries[:5])
            + (" ..." if len(row.entries) > 5 else ""),
        ]

    @property
    def columns(self) -> list[str]:
        """Names of the columns of `records`, and of `leaderboard.csv`."""
        last = ["n", "epochs", "rung", self.tested, "seconds", "status", "trials"]
        return ["rank", *self.keys, self.objective, "ci95", *last]

    @property
    def records(self) -> list[list[Any]]:
        """The rows, their values as they are in configs."""
        return [
            [rank, *row.values.values(), *self._measured(row)]
            for rank, row in enumerate(self.rows, 1)
        ]

    def _measured(self, row: Row) -> list[Any]:
        names = " ".join(entry.name for entry in row.entries)
        scores = (row.mean, row.interval, row.count, row.epochs, row.rung)
        return [*scores, row.test(self.tested), row.seconds, row.status, names]

    def write(self) -> None:
        """Write `leaderboard.csv` and `leaderboard.md` into the sweep's folder."""
        with (
            replaced(self.folder / layout.LEADERBOARD) as temporary,
            temporary.open("w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.writer(file)
            writer.writerow(self.columns)
            for rank, row in enumerate(self.rows, 1):
                writer.writerow([rank, *map(shown, row.values.values()), *self._measured(row)])
        columns = [name or "rank" for name, _ in self._columns()]
        lines = [
            columns,
            ["---"] * len(columns),
            *(self._cells(rank, row) for rank, row in enumerate(self.rows, 1)),
        ]
        text = "".join(
            f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n"
            for line in lines
        )
        with replaced(self.folder / layout.LEADERBOARD_TEXT) as temporary:
            temporary.write_text(text, encoding="utf-8")


def _best(metrics: Path, objective: str) -> float | None:
    """The best value so far in a `metrics.csv`."""
    best: float | None = None
    for row in read_rows(metrics):
        score = row.get(objective, math.nan)
        best = score if improves(score, best, objective) else best
    return best


def _mean(numbers: Iterable[float | None]) -> float | None:
    there = [number for number in numbers if number is not None]
    return fmean(there) if there else None


def _score(row: Row) -> str:
    if row.mean is None:
        return ""
    if row.interval is not None:
        return f"{rounded(row.mean)} ± {rounded(row.interval)}"
    return rounded(row.mean) if row.extent is None else " to ".join(map(rounded, row.extent))


def _interval(scores: list[float]) -> float | None:
    if len(scores) < 3:
        return None
    from scipy.stats import t

    return float(t.ppf(0.975, len(scores) - 1)) * stdev(scores) / math.sqrt(len(scores))
