"""How far stacks are that train elsewhere, seen in their run folders."""

from collections.abc import Sequence

from trialstack.core import layout
from trialstack.run.metrics_csv import read_rows
from trialstack.sweep.progress import SweepBar
from trialstack.sweep.stack_task import StackTask


class Following:
    """Shows on a bar how far tasks are that train elsewhere.

    Args:
        bar: the sweep's.
    """

    def __init__(self, bar: SweepBar) -> None:
        self.bar = bar
        self._epochs: dict[int, tuple[int, int]] = {}

    def look(self, tasks: Sequence[StackTask]) -> None:
        """Read what tasks have written since the last look.

        Args:
            tasks: that have not ended.
        """
        done = 0
        for task in tasks:
            rows = len(read_rows(task.trials[0].folder / layout.METRICS))
            first, before = self._epochs.setdefault(task.number, (rows, rows))
            if rows != before:
                self._epochs[task.number] = first, rows
                self.bar.measured(_last_scores(task, self.bar.objective))
            done += (rows - first) * len(task.trials)
        self.bar.trained(done)


def _last_scores(task: StackTask, objective: str) -> list[float]:
    rows = (read_rows(trial.folder / layout.METRICS) for trial in task.trials)
    return [of_trial[-1][objective] for of_trial in rows if of_trial and objective in of_trial[-1]]
