"""What has come out of a sweep: its leaderboard on the terminal, as files, as a picture and in TensorBoard."""

import os
from pathlib import Path

from rich.console import Console

from trialstack.leaderboard import Leaderboard
from trialstack.sweep_board import write_board
from trialstack.sweep_figure import save_figure

NOT_TERMINAL = 140
"""Columns of the table where there is no terminal to ask."""


def report(folder: Path) -> Leaderboard:
    """Print the leaderboard of the sweep in `folder`, and what failed or diverged; write all its forms there.

    Raises:
        UserError: its index is damaged.
        OSError: the folder cannot be written.
    """
    leaderboard = Leaderboard(folder)
    leaderboard.write()
    save_figure(leaderboard, folder / "sweep.png")
    write_board(leaderboard, folder / "tensorboard")
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=NOT_TERMINAL)
    console.print(leaderboard.table())
    for status in ("failed", "diverged"):
        entries = [entry for entry in leaderboard.entries if entry.status == status]
        for entry in entries[:5]:
            console.print(f"{status}: {os.path.relpath(folder / entry.name)}: {entry.reason}", soft_wrap=True)
        if len(entries) > 5:
            console.print(f"{status}: {len(entries) - 5} more, see leaderboard.csv")
    written = "leaderboard.csv, leaderboard.md, sweep.png, tensorboard/"
    console.print(f"written: {os.path.relpath(folder)}/ {written}", soft_wrap=True)
    return leaderboard
