"""What signals mean to commands that tests run."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from trialstack.core.interruption import SIGNALS


def listen() -> None:
    """Have Ctrl-C and a closed terminal reach this process, also where a shell runs the tests in
    the background.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@contextmanager
def handlers_restored() -> Iterator[None]:
    """Have signals mean afterwards what they mean to pytest."""
    handlers = {number: signal.getsignal(number) for number in (*SIGNALS, signal.SIGALRM)}
    listen()
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
