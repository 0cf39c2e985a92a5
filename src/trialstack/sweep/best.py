"""The best trial of a sweep as an experiment, which trains it again as a run of its own."""

import os
import shlex
from typing import Any

from trialstack.core import layout
from trialstack.core.atomic_files import replaced
from trialstack.core.called import called
from trialstack.core.objective import rounded
from trialstack.core.schedules import SCHEDULES
from trialstack.core.schema import GROUPS
from trialstack.core.yaml_dump import to_yaml
from trialstack.sweep.leaderboard import Entry, Leaderboard


def best_command(leaderboard: Leaderboard) -> str:
    """Return the command that trains the experiment of `write_best`."""
    folder = os.path.relpath(leaderboard.folder)
    return f"{called('train')} -cd {shlex.quote(folder)} experiment=best"


def longer_command(leaderboard: Leaderboard, entry: Entry) -> str:
    """Return the command that trains the best trial twice as long: on from where it ended, or anew
    where its schedule was laid out for its length.
    """
    epochs = f"trainer.max_epochs={2 * int(entry.trial.content.get('trainer.max_epochs', 1))}"
    folder = leaderboard.folder / entry.name
    schedule = SCHEDULES.get(str(entry.trial.content.get("schedule.name")))
    if getattr(schedule, "laid_out", False) or not (folder / layout.LAST).exists():
        return f"{best_command(leaderboard)} {epochs}"
    source = shlex.quote(f"from={os.path.relpath(folder)}")
    return f"{called('train')} {source} continue=true {epochs}"


def write_best(leaderboard: Leaderboard) -> None:
    """Write the best trial's config to `experiment/best.yaml` in the sweep's folder, if there is
    one.
    """
    entry = leaderboard.best
    if entry is None or entry.objective is None:
        return
    file = leaderboard.folder / layout.BEST_EXPERIMENT
    file.parent.mkdir(exist_ok=True)
    header = (
        "# @package _global_\n"
        f"# Trial {entry.name}, {leaderboard.objective} {rounded(entry.objective)}: "
        f"{best_command(leaderboard)}\n"
    )
    with replaced(file) as temporary:
        temporary.write_text(header + to_yaml(_experiment(entry)), encoding="utf-8")


def _experiment(entry: Entry) -> dict[str, Any]:
    options = {
        group: option
        for group, option in entry.trial.choices.items()
        if group in GROUPS and GROUPS[group].learned
    }
    values: dict[str, Any] = {
        "defaults": [{f"override /{group}": option} for group, option in options.items()]
    }
    for key, value in entry.trial.content.items():
        *groups, name = key.split(".")
        part = values
        for group in groups:
            part = part.setdefault(group, {})
        part[name] = value
    return values
