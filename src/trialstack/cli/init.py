"""Lay out a project of one's own: `trialstack init FOLDER`."""

import os
import shlex
import shutil
import sys
from pathlib import Path

from trialstack.cli.command import end, unwritable
from trialstack.core.called import PROGRAM
from trialstack.core.errors import UserError

TEMPLATE = Path(__file__).resolve().parents[1] / "template"
USAGE = f"{PROGRAM} init FOLDER"


def lay_out(folder: Path) -> None:
    """Copy the template to `folder`.

    Raises:
        UserError: something is there already.
    """
    if os.path.lexists(folder) and not (folder.is_dir() and next(folder.iterdir(), None) is None):
        raise UserError(f"a project needs a new or an empty folder, got {folder}; name another one")
    shutil.copytree(
        TEMPLATE, folder, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True
    )


def main() -> None:
    """Lay out the project that the command line asks for."""
    match sys.argv[1:]:
        case ["-h" | "--help"]:
            print(f"{USAGE}: lay out a project in a new or an empty folder")
        case [folder] if not folder.startswith("-"):
            _lay_out(Path(folder))
        case given:
            got = shlex.join(given) or "nothing"
            end(f"{USAGE} takes one folder, got {got}; try {PROGRAM} init my_project", 2)


def _lay_out(folder: Path) -> None:
    try:
        lay_out(folder)
    except UserError as error:
        end(str(error), 2)
    except OSError as error:
        end(unwritable(error), 2)
    print(f"go on with: cd {shlex.quote(str(folder))} && {PROGRAM} train experiment=stripes")
