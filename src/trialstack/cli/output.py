"""What a command prints: shown as far as it can be, and never what a command fails of.

What nobody reads (`| head -1`, a closed terminal, a closed descriptor) is dropped, and characters
that the terminal's encoding lacks are spelled in ASCII.
"""

import codecs
import errno
import io
import os
import select
import sys
import unicodedata
from typing import Any, TextIO

_NOBODY_READS = (errno.EPIPE, errno.EIO, errno.EBADF)
"""Errors of a pipe, a terminal and a descriptor whose other end is closed."""

_SPELLED = {"±": "+-", "─": "-", "━": "-", "│": "|", "…": "...", "→": "->", "µ": "u", "ß": "ss"}


def never_fail() -> None:
    """Have `sys.stdout` and `sys.stderr` take whatever is written to them from now on, shown or
    not.
    """
    codecs.register_error("spelled", _spelled)
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except (
            OSError
        ):  # closed: the next file that is opened would get its number, and what is printed
            os.open(os.devnull, os.O_RDWR)
    sys.stdout, sys.stderr = _lenient(sys.stdout), _lenient(sys.stderr)


def _lenient(stream: TextIO | None) -> TextIO:
    if stream is None:
        return open(os.devnull, "w", encoding="utf-8")
    if not hasattr(stream, "buffer"):  # of a notebook
        return stream
    stream.flush()
    at_once = getattr(stream, "line_buffering", True) or getattr(stream, "write_through", True)
    return io.TextIOWrapper(
        io.BufferedWriter(_Lenient(stream)), stream.encoding, "spelled", line_buffering=at_once
    )


class _Lenient(io.RawIOBase):
    """A stream of bytes that drops what it cannot write, and says so once if somebody may miss
    it.
    """

    def __init__(self, text: TextIO) -> None:
        self._text = text  # would close the stream if it went
        self._stream: Any = getattr(text.buffer, "raw", text.buffer)
        self._said = False

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return int(self._stream.fileno())

    def isatty(self) -> bool:
        return bool(self._stream.isatty())

    def write(self, content: Any) -> int:
        try:
            while (
                written := self._stream.write(content)
            ) is None:  # the pipe is full, and set not to wait
                select.select([], [self._stream], [])
            return int(written)
        except ValueError:  # closed by this process
            pass
        except OSError as error:
            if error.errno not in _NOBODY_READS and not self._said:
                self._said = True
                print(f"some of the output cannot be shown: {error.strerror}", file=sys.stderr)
        return len(content)


def _spelled(error: UnicodeError) -> tuple[str, int]:
    """Codec error handler: characters without their accents, or with a name in ASCII, or
    escaped.
    """
    assert isinstance(error, UnicodeEncodeError)
    return "".join(map(_ascii, error.object[error.start : error.end])), error.end


def _ascii(character: str) -> str:
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return _SPELLED.get(character) or plain or character.encode("unicode_escape").decode()
