"""`train.py -m` as a function: `sweep("optimizer.lr=0.1,0.01", "seed=1,2", sweep="lr")`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from trialstack.cli.claim import TRAIN_STACKS
from trialstack.core.configs import CONF
from trialstack.core.errors import TrialsFailed, UserError
from trialstack.core.hydra_internals import JobReturn, multirun, own_hydra
from trialstack.core.parse import check_options
from trialstack.run.messages import printed
from trialstack.run.result import Result
from trialstack.sweep.hydra_job import TrialReturn
from trialstack.sweep.leaderboard import Leaderboard
from trialstack.sweep.sweep import sweep as train_jobs

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Swept:
    """What has come out of a sweep.

    Attributes:
        folder: of the sweep, absolute.
        results: of the trials of the call, in its order; of a search, those that it has trained; of
            a dry run none.
    """

    folder: Path
    results: list[Result]

    @property
    def leaderboard(self) -> Leaderboard:
        """Of all trials in the folder, also those of earlier calls and commands."""
        return Leaderboard(self.folder)

    @property
    def best(self) -> Result | None:
        """Result of the leaderboard's best trial; None if none has an objective."""
        best = self.leaderboard.best
        return None if best is None else Result.read(self.folder / best.name)

    def dataframe(self) -> pd.DataFrame:
        """Return the leaderboard as `leaderboard.csv` has it, by rank.

        Raises:
            UserError: pandas is missing.
        """
        try:
            import pandas as pd
        except ImportError:
            raise UserError(
                "dataframe() needs pandas; pip install 'trialstack[notebook]' (in a clone: "
                "-e '.[notebook]')"
            ) from None
        leaderboard = self.leaderboard
        return pd.DataFrame(leaderboard.records, columns=leaderboard.columns).set_index("rank")


def sweep(*overrides: str, sweep: str | None = None) -> Swept:
    """Train what `python train.py -m OVERRIDES sweep=SWEEP` would, in the same folders; the same
    call, or command, goes on.

    Trials that failed have that status, as in `train`. Hydra, logging and `sys.argv` are afterwards
    what they were.

    Args:
        *overrides: as on the command line.
        sweep: its name; None for the time.

    Raises:
        UserError: a config breaks a rule, and nothing is trained; or the disk is full.
        HydraException: an override is none, or of a key that is not there.
        Interrupted: Ctrl-C, or a notebook's stop button.
        TrialsFailed: a trial failed under `on_error=stop`.
    """
    arguments = [*overrides, *([] if sweep is None else [f"sweep={sweep}"])]
    check_options(arguments)
    task = _Task()
    with printed(), _as_command(arguments), own_hydra(CONF, "train") as hydra:
        try:
            multirun(hydra, "train", arguments, task, task.begin)
        except TrialsFailed:
            if task.config.on_error == "stop":
                raise
    folders = [job.folder for job in task.returned if isinstance(job, TrialReturn)]
    return Swept(task.folder, [Result.of(folder) for folder in folders if folder is not None])


class _Task:
    """What Hydra runs: all jobs of a batch at once, as the command has it.

    Attributes:
        returned: of all jobs so far.
        config: of the sweep.
        folder: of the sweep, absolute.
    """

    config: DictConfig
    folder: Path

    def __init__(self) -> None:
        self.returned: list[JobReturn] = []

    def begin(self, config: DictConfig) -> None:
        launcher = config.hydra.runtime.choices["hydra/launcher"]
        if launcher not in TRAIN_STACKS:
            raise UserError(
                f"hydra/launcher must be one of {', '.join(TRAIN_STACKS)} in sweep(), got "
                f"{launcher}; leave it out, or use the command line"
            )
        self.config = config
        self.folder = Path(str(config.hydra.sweep.dir)).absolute()

    def __call__(self, config: DictConfig) -> Any:
        raise AssertionError("these launchers call train_jobs")

    def train_jobs(self, configs: Sequence[DictConfig], *others: Any) -> list[JobReturn]:
        returned = train_jobs(configs, *others)
        self.returned += returned
        return returned


@contextmanager
def _as_command(arguments: Sequence[str]) -> Iterator[None]:
    """Have messages name the command that does the same, where they name this process's."""
    before = sys.argv
    sys.argv = ["train.py", "-m", *arguments]
    try:
        yield
    finally:
        sys.argv = before
