"""What has come out of a sweep: its leaderboard on the terminal, as files, as a picture and in
TensorBoard.
"""

import os
from pathlib import Path

from rich.console import Console
from rich.table import Table

from trialstack.core import layout
from trialstack.core.atomic_files import replaced_folder
from trialstack.core.errors import cannot_write
from trialstack.run.status import Status
from trialstack.sweep.best import best_command, longer_command, write_best
from trialstack.sweep.figure import save_figure
from trialstack.sweep.leaderboard import Leaderboard
from trialstack.sweep.tensorboard import write_board

NOT_TERMINAL = 140
"""Columns of the table where there is no terminal to ask."""

LEAST = ("test/", "s/trial", "trials")
"""Beginnings of the columns that a narrow terminal does without, in turn; the files have them."""


def report_sweep(folder: Path) -> Leaderboard:
    """Print the leaderboard of the sweep in `folder`, and what failed or diverged; write all its
    forms there.

    A folder that cannot be written is said to be that.

    Raises:
        UserError: its index is damaged.
    """
    leaderboard = Leaderboard(folder)
    try:
        _write(leaderboard)
        end = (
            f"written to {os.path.relpath(folder)}: leaderboard.csv, leaderboard.md, sweep.png, "
            "tensorboard/"
        )
        if leaderboard.best is not None:
            end += ", experiment/best.yaml"
            end += f"\nthe best one again: {best_command(leaderboard)}"
            end += f"\nlonger: {longer_command(leaderboard, leaderboard.best)}"
    except OSError as error:
        end = cannot_write(error, folder)
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, width=NOT_TERMINAL)
    console.print(fitting(leaderboard.table(), console))
    for status in (Status.FAILED, Status.DIVERGED):
        alike: dict[str | None, list[str]] = {}
        for entry in leaderboard.entries:
            if entry.status == status:
                alike.setdefault(entry.reason, []).append(entry.name)
        for reason, names in alike.items():
            some = ", ".join(names[:10]) + (
                f" and {len(names) - 10} more" if len(names) > 10 else ""
            )
            console.print(f"{status}: {os.path.relpath(folder)}/{some}: {reason}", soft_wrap=True)
    console.print(end, soft_wrap=True)
    return leaderboard


def _write(leaderboard: Leaderboard) -> None:
    leaderboard.write()
    write_best(leaderboard)
    save_figure(leaderboard, leaderboard.folder / layout.LEADERBOARD_PICTURE)
    with replaced_folder(leaderboard.folder / layout.MEAN_CURVES) as board:
        write_board(leaderboard, board)


def fitting(table: Table, console: Console) -> Table:
    """The table; if the terminal is narrow, with headers over several lines and without what
    matters least.
    """

    def too_wide() -> bool:
        return (
            console.measure(table, options=console.options.update(max_width=10_000)).maximum
            > console.width
        )

    if too_wide():
        for column in table.columns:
            column.header = str(column.header).replace(".", ".\n")
    for name in LEAST:
        if too_wide():
            table.columns = [
                column for column in table.columns if not str(column.header).startswith(name)
            ]
    return table
