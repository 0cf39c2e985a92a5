"""The command `trialstack`: `trialstack train model=mlp300 data=fashion`."""

import difflib
import importlib
import os
import sys

from trialstack.core.called import PROGRAM

COMMANDS = {
    "train": "train a network, or with -m a sweep",
    "evaluate": "measure a run's best checkpoint on its test set",
    "predict": "classify images with a run's best checkpoint",
    "export": "write a run's best weights for other programs",
    "report": "show what has come out of a sweep so far",
    "verify": "train one trial of a sweep by itself and compare",
    "init": "lay out a project of your own",
}
"""What is in the modules of these names, in a line each."""


def main() -> None:
    """Run a command as its script does; modules in the working folder can be imported, too."""
    name = _taken()
    if name in ("", "-h", "--help"):
        print(_help())
        return
    if name not in COMMANDS:
        print(_unknown(name), file=sys.stderr)
        sys.exit(2)
    sys.path.insert(0, os.getcwd())
    importlib.import_module(f"trialstack.cli.{name}").main()


def _taken() -> str:
    """Take the command's name from `sys.argv`, which is then that of its script.

    Returns:
        "" if there is none.
    """
    if sys.argv[1:2] == ["-sc"]:
        return _completed()
    if "hydra.output_subdir=null" in sys.argv and sys.argv[1] not in COMMANDS:
        return "train"  # one of a run's processes, started by Lightning, which knows of scripts
    return sys.argv.pop(1) if sys.argv[1:] else ""


def _completed() -> str:
    """Take the name from the line that a shell wants completed, which Hydra expects to be that of
    a script.
    """
    _, name, line, *_ = [*os.environ.get("COMP_LINE", "").split(maxsplit=2), "", "", ""]
    if name not in COMMANDS:
        print(*COMMANDS)
    if name not in COMMANDS or name == "init":  # shells know of folders
        sys.exit()
    os.environ["COMP_LINE"] = f"{PROGRAM} {line}"
    return name


def _help() -> str:
    width = max(map(len, COMMANDS))
    listed = [f"  {PROGRAM} {name:{width}}  {what}" for name, what in COMMANDS.items()]
    return "\n".join([f"{PROGRAM} COMMAND ..., each with --help of its own:", "", *listed])


def _unknown(name: str) -> str:
    close = difflib.get_close_matches(name, COMMANDS, n=1)
    meant = f"did you mean {close[0]}? " if close else ""
    return f"{PROGRAM} has no command {name}; {meant}there are {', '.join(COMMANDS)}"
