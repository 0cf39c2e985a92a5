"""`metrics.csv`, written and read back."""

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from trialstack.core.atomic_files import replaced
from trialstack.core.objective import is_metric
from trialstack.core.untrusted import LARGEST, Damaged, text, warn

EpochRow = dict[str, float]
"""An epoch: `epoch` (from 1), `step` (optimizer steps), metrics, `lr`, `seconds`."""

_PARTS = ("train", "val")
"""In the order of their columns; what is of neither follows."""

_MOST = 2**26
"""Bytes; a row has about 100."""


def metrics(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the names of the metrics that epochs have, those of training first, then those of
    validation.
    """
    names = dict.fromkeys(name for row in rows for name in row if is_metric(name))
    return sorted(names, key=_place)


def _place(name: str) -> int:
    part = name.partition("/")[0]
    return _PARTS.index(part) if part in _PARTS else len(_PARTS)


def measured(row: EpochRow) -> dict[str, float]:
    """Return what was measured in an epoch, which is what loggers get of it."""
    return {name: row[name] for name in (*metrics([row]), "lr") if name in row}


def write_rows(file: Path, rows: Sequence[EpochRow], on_disk: bool) -> None:
    """Write epochs, as a whole or not at all."""
    with (
        replaced(file, on_disk) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as part,
    ):
        writer = csv.DictWriter(part, ["epoch", "step", *metrics(rows), "lr", "seconds"])
        writer.writeheader()
        writer.writerows(rows)


def read_rows(file: Path) -> list[EpochRow]:
    """Return what was measured, an epoch a row; what is damaged is said, and left out.

    Every row has `step`, a whole number; losses may be NaN or infinite.
    """
    rows = []
    try:
        reader = csv.DictReader(StringIO(text(file, _MOST), newline=""))
        for cells in reader:
            try:
                rows.append(_row(cells))
            except ValueError:
                warn(
                    file,
                    Damaged(f"is damaged in line {reader.line_num}"),
                    "the rows that can be read count",
                )
    except FileNotFoundError:
        pass
    except Damaged as problem:
        warn(file, problem, "nothing of it counts")
    except csv.Error as error:
        warn(file, Damaged(f"is no CSV ({error})"), "the rows before that count")
    return rows


def _row(cells: dict[str, str]) -> EpochRow:
    """Return the numbers of a row, without cells that are empty; of one too short, cells are None.

    Raises:
        ValueError: it has more or fewer cells than there are columns, or what is no number.
    """
    if None in cells or None in cells.values():
        raise ValueError("of another length")
    row = {name: float(cell) for name, cell in cells.items() if cell}
    step = row.get("step", -1.0)
    if not 0 <= step <= 2**53 or not step.is_integer():
        raise ValueError("no number of steps")
    if any(abs(number) > LARGEST and number != math.inf for number in row.values()):
        raise ValueError("no number that was measured")
    return row
