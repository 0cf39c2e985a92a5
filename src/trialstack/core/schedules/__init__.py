"""The schedules, a file each: the file's name is what `schedule.name` calls it."""

import sys
from collections.abc import Mapping
from typing import Any

from trialstack.core.members import members
from trialstack.core.schedule import Schedule

SCHEDULES = {name: kind for name, [kind] in members(sys.modules[__name__], Schedule).items()}


def parse_schedule(group: Mapping[str, Any]) -> Schedule:
    """Return the schedule of a `schedule` group, which has been checked."""
    return SCHEDULES[group["name"]].parse(group, "schedule.")
