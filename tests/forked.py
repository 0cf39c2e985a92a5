"""Commands in forks of this process, which has imported what they need: a start takes no
seconds.
"""

import os
import runpy
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from tests.signals import listen


class Forked:
    """A script of the project, running in a folder; the part of subprocess.Popen's interface that
    tests use.
    """

    def __init__(self, script: Path, arguments: Sequence[str], folder: Path, said: Path) -> None:
        self.said = said
        self.returncode: int | None = None
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            self._run(script, arguments, folder)

    def _run(self, script: Path, arguments: Sequence[str], folder: Path) -> None:
        code = 1
        try:
            for name, descriptor in (("out", 1), ("err", 2)):
                os.dup2(os.open(self.said / name, os.O_WRONLY | os.O_CREAT), descriptor)
            sys.stdout, sys.stderr = (
                os.fdopen(descriptor, "w", closefd=False) for descriptor in (1, 2)
            )
            listen()
            os.chdir(folder)
            sys.argv = [str(script), *arguments]
            runpy.run_path(str(script), run_name="__main__")
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def poll(self) -> int | None:
        """Return how it ended, None while it runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def communicate(self) -> tuple[str, str]:
        """Wait for the end, and return what went to standard output and to standard error."""
        while self.poll() is None:
            time.sleep(0.01)
        return (self.said / "out").read_text(), (self.said / "err").read_text()

    def send_signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)
