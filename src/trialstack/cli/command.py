"""How a command begins and ends: Hydra's `main`, with this project's errors and exit codes.

Exit codes: 0 done, 2 the user's mistake or a bad input (one line, no traceback), 130 interrupted, 1
anything else. `HYDRA_FULL_ERROR=1` shows the traceback behind a one-line error.
"""

import difflib
import functools
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn

import hydra
import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

import trialstack.core.clock
import trialstack.core.load  # noqa: F401  # both count from here
from trialstack.cli.output import never_fail
from trialstack.core.configs import CONF
from trialstack.core.errors import Interrupted, TrialsFailed, UserError, cannot_write
from trialstack.core.hydra_internals import overrides_last
from trialstack.core.interruption import Interruption

AT_END = ExitStack()
"""What is held until the command ends, however it ends."""

_FULL_ERROR = os.environ.get("HYDRA_FULL_ERROR", "0")


def command(
    name: str, rewrite: Callable[[list[str]], list[str]] = list
) -> Callable[[Callable[[DictConfig], Any]], Callable[[], None]]:
    """Decorate a Hydra task: make a command of it, whose config is `NAME.yaml`.

    Args:
        name: of the config.
        rewrite: as `run` has it.
    """

    def decorate(task: Callable[[DictConfig], Any]) -> Callable[[], None]:
        with_config = hydra.main(version_base="1.3", config_path=str(CONF), config_name=name)
        return functools.partial(run, with_config(exit_codes(task)), rewrite)

    return decorate


def exit_codes(task: Callable[[DictConfig], Any]) -> Callable[[DictConfig], Any]:
    """Decorate a Hydra task: turn what it raises into one line and an exit code.

    In a sweep the exception goes on to Hydra, which finishes the other jobs first.
    """

    @functools.wraps(task)
    def wrapped(config: DictConfig) -> Any:
        sweep = HydraConfig.get().mode == RunMode.MULTIRUN
        if not sweep:
            os.environ["HYDRA_FULL_ERROR"] = (
                _FULL_ERROR  # as the user set it, here and in processes that this one starts
            )
        try:
            return task(config)
        except UserError as error:
            if sweep:
                raise
            end(str(error), 2)
        except (Interrupted, KeyboardInterrupt) as stop:
            end(f"interrupted; {stop}" if str(stop) else "interrupted", 130)

    return wrapped


def trains_jobs_with(
    train_all: Callable[..., Any],
) -> Callable[[Callable[[DictConfig], Any]], Callable[[DictConfig], Any]]:
    """Decorate a Hydra task, below `command`: `hydra/launcher=stacked` calls `train_all` with
    all jobs at once.
    """

    def decorate(task: Callable[[DictConfig], Any]) -> Callable[[DictConfig], Any]:
        task.train_jobs = train_all  # type: ignore[attr-defined]
        return task

    return decorate


def run(main: Callable[[], Any], rewrite: Callable[[list[str]], list[str]] = list) -> None:
    """Run a `hydra.main` function as a command, and end the process if it fails.

    Args:
        main: the command.
        rewrite: makes Hydra's arguments of the command line's, whose options come first and
            overrides last.
    """
    never_fail()
    with Interruption():
        try:
            _run(main, rewrite)
        except KeyboardInterrupt:  # while the last word was said
            end("interrupted", 130)


def _run(main: Callable[[], Any], rewrite: Callable[[list[str]], list[str]]) -> None:
    os.environ["HYDRA_FULL_ERROR"] = (
        "1"  # Hydra then raises its own errors instead of printing them
    )
    _forget_ranks()
    try:
        _check_text(sys.argv[1:])
        sys.argv[1:] = rewrite(overrides_last(sys.argv[1:]))
        main()
    except UserError as error:
        end(str(error), 2)
    except TrialsFailed as error:
        end(str(error), 1)
    except Interrupted as stop:
        end(f"interrupted; {stop}", 130)
    except HydraException as error:
        end(_short(error), 1)
    except yaml.YAMLError as error:
        end(f"a config file is not YAML: {' '.join(str(error).split())}", 2)
    except KeyboardInterrupt:
        end("interrupted", 130)
    except OSError as error:
        end(unwritable(error), 2)
    finally:
        AT_END.close()


def _check_text(arguments: list[str]) -> None:
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise UserError(
                f"arguments must be text in {sys.getfilesystemencoding()}, the locale's encoding, "
                f"got {argument!a}; type it in ASCII, or use another locale, such as LC_ALL=C.UTF-8"
            ) from None


def _forget_ranks() -> None:
    """Remove ranks that are in the environment by chance: Lightning would have the run be done by
    another process.

    Those that Lightning starts itself, with a folder that this process has claimed, and
    `torchrun`'s keep theirs.
    """
    if "hydra.output_subdir=null" not in sys.argv and "TORCHELASTIC_RUN_ID" not in os.environ:
        os.environ.pop("LOCAL_RANK", None)
        os.environ.pop("RANK", None)


def _short(error: HydraException) -> str:
    """Hydra's text; for an unknown key, with the nearest and all that there are before Hydra's way
    to add one.
    """
    cause, notes = error.__cause__, getattr(error, "__notes__", [])
    if not isinstance(cause, OmegaConfBaseException) or not isinstance(
        cause.parent_node, DictConfig
    ):
        return "\n".join(filter(None, [str(error), str(cause) if cause else "", *notes]))
    there = sorted(str(key) for key in cause.parent_node if key != "hydra")
    close = difflib.get_close_matches(str(cause.key), there, n=1)
    group = str(cause.full_key).removesuffix(str(cause.key))
    meant = f" Did you mean '{group}{close[0]}'?" if close else ""
    first, *others = str(error).splitlines()
    return "\n".join(
        [f"{first}{meant}", f"Keys that are there: {', '.join(there)}", *others, *notes]
    )


def unwritable(error: OSError) -> str:
    """Return what is said of a file that cannot be written, or of the run folder if `error` names
    none.
    """
    folder = str(HydraConfig.get().run.dir) if HydraConfig.initialized() else "."
    elsewhere = "" if folder == "." else ", or use hydra.run.dir=FOLDER"
    return cannot_write(error, Path(folder)) + elsewhere


def end(message: str, code: int) -> NoReturn:
    """Print `message` as the last word of the command and exit with `code`."""
    if _FULL_ERROR == "1":
        traceback.print_exc()
    print(message, file=sys.stderr)
    sys.exit(code)
