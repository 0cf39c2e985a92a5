"""Ctrl-C, SIGTERM and a closed terminal (SIGHUP): a KeyboardInterrupt, whenever they come, and then
time to finish.

Lightning puts a handler of its own before this one while it trains, and the interpreter's own would
end a process without a word (SIGTERM, SIGHUP), or let an impatient second Ctrl-C end what writes
the results of the first.
"""

import atexit
import os
import signal
import sys
from contextlib import suppress
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""That interrupt a command."""

PATIENCE = 3
"""Of so many signals after the first, the last ends a command at once, finished or not."""

_AGAIN = 0.1
"""Seconds until an interruption that nobody has taken up is raised again."""


class Interruption:
    """Handles the signals that interrupt a command, in a `with` around it and until the process is
    gone.

    Those that `nohup` or a shell has the process ignore stay ignored. Within an import the
    interruption waits for its end: libraries swallow it there, or leave half of a module. Where
    else it is swallowed, it comes again.
    """

    def __init__(self) -> None:
        self._ended: int | None = None
        self._came = 0

    def __enter__(self) -> None:
        handled = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
        for number in (*handled, signal.SIGALRM):
            signal.signal(number, self)
        # called last: the interpreter, as it ends, would let them end it before
        atexit.register(_ignore, handled)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Have a signal that comes from now on, when all is written, leave the exit code as it
        is.
        """
        signal.setitimer(signal.ITIMER_REAL, 0)
        code = error.code if isinstance(error, SystemExit) else int(error is not None)
        self._ended = code if isinstance(code, int) else 1

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self._ended is not None:
            os._exit(self._ended)
        if number != signal.SIGALRM:
            self._count(number)
        if not _finishing():
            signal.setitimer(signal.ITIMER_REAL, _AGAIN, _AGAIN)
            if not _importing(frame):
                raise KeyboardInterrupt

    def _count(self, number: int) -> None:
        self._came += 1
        if self._came == 2:
            _say(f"finishing; {PATIENCE - 1} more signals end it at once")
        if self._came > PATIENCE:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


def _finishing() -> bool:
    """Tell whether an earlier signal's KeyboardInterrupt is being handled."""
    error = sys.exception()
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


def _importing(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_code.co_filename != "<frozen importlib._bootstrap>":
        frame = frame.f_back
    return frame is not None


def _ignore(numbers: list[signal.Signals]) -> None:
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)


def _say(line: str) -> None:
    """Print from a signal handler, which may have interrupted another print."""
    with suppress(OSError):
        os.write(2, f"{line}\n".encode())
