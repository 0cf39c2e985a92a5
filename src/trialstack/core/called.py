"""What commands are called: `python train.py` in a clone, `trialstack train` otherwise."""

import shlex
import sys
from pathlib import Path

from trialstack.core.configs import IN_CLONE

PROGRAM = "trialstack"


def called(command: str, script: str | None = None) -> str:
    """Return how to start a command the way this process was started.

    Args:
        command: `train`, ...
        script: file that starts it in a clone, if not `COMMAND.py`.
    """
    if IN_CLONE and Path(sys.argv[0]).stem != PROGRAM:
        return f"python {shlex.quote(script or f'{command}.py')}"
    return f"{PROGRAM} {command}"
