"""IDX files (MNIST's format): found, verified, downloaded whole or not at all, and read.

Format: two zero bytes, a type byte (8 for uint8), the number of dimensions, each dimension as a
big-endian uint32, data.
"""

import gzip
import hashlib
import logging
import math
import shutil
import socket
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from torchvision.datasets.utils import download_and_extract_archive

from trialstack.core.errors import UserError
from trialstack.core.untrusted import opened

log = logging.getLogger(__name__)

_MISSING = "is missing"

_MOST = 2**30
"""Bytes of an array; MNIST's largest has 47 million."""


class IdxFolder:
    """A folder of IDX files, each as `NAME` or `NAME.gz`.

    Args:
        folder: where the files lie.
        md5: expected MD5 of every file's uncompressed bytes, by name.
        mirrors: URLs that end in `/`, to which `NAME.gz` is appended.
        archive_md5: expected MD5 of every `NAME.gz` on the mirrors, by that name.
    """

    def __init__(
        self,
        folder: Path,
        md5: Mapping[str, str],
        mirrors: Sequence[str],
        archive_md5: Mapping[str, str],
    ) -> None:
        self.folder = folder
        self.md5 = md5
        self.mirrors = mirrors
        self.archive_md5 = archive_md5

    def read(self, download: bool) -> dict[str, NDArray[np.uint8]]:
        """Return every file's array by name, after fetching what is missing or damaged if
        `download` allows it.

        Raises:
            FileNotFoundError: files are missing or damaged and cannot be had; the message names
                each and why.
        """
        arrays, problems = self._whole()
        if problems and download:
            self._download()
            arrays, problems = self._whole()
        if problems:
            raise FileNotFoundError(_listed(problems))
        return arrays

    def _whole(self) -> tuple[dict[str, NDArray[np.uint8]], dict[str, str]]:
        """Read every file that is whole, and tell by name what is wrong with the others."""
        arrays: dict[str, NDArray[np.uint8]] = {}
        problems: dict[str, str] = {}
        for name, md5 in self.md5.items():
            for path in (self.folder / name, self.folder / f"{name}.gz"):
                try:
                    arrays[name] = _array(path, md5)
                    break
                except FileNotFoundError:
                    problems.setdefault(name, _MISSING)
                except (OSError, ValueError) as error:
                    problems[name] = f"{path} {error}"
        for name in arrays.keys() & problems.keys():
            if (problem := problems.pop(name)) != _MISSING:
                log.warning("%s: the other copy of it is used", problem)
        return arrays, problems

    def _download(self) -> None:
        """Fetch what is not whole into a folder beside it, and move each file into place once it is
        verified.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.folder / ".lock")
            lock.acquire()
        except OSError as error:
            raise FileNotFoundError(
                f"{_listed(self._whole()[1])}; {self.folder} cannot be written"
            ) from error
        try:
            for name, problem in self._whole()[
                1
            ].items():  # another process may have fetched some meanwhile
                if problem != _MISSING:
                    log.warning("%s: fetching it anew", problem)
                self._fetch(name)
        finally:
            lock.release()

    def _fetch(self, name: str) -> None:
        archive = f"{name}.gz"
        temporary = self.folder / ".download"
        reasons = []
        for mirror in self.mirrors:
            shutil.rmtree(temporary, ignore_errors=True)  # what an interrupted download left
            try:
                with _socket_timeout(30):
                    download_and_extract_archive(
                        mirror + archive,
                        str(temporary),
                        filename=archive,
                        md5=self.archive_md5.get(archive),
                    )
                _array(temporary / name, self.md5[name])
                (temporary / name).replace(self.folder / name)
                return
            except (OSError, RuntimeError, HTTPException, EOFError, ValueError) as error:
                reasons.append(f"{mirror}{archive}: {error}")
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
        raise FileNotFoundError(
            f"{_listed(self._whole()[1])}; download failed ({'; '.join(reasons)})"
        )


def _array(path: Path, md5: str) -> NDArray[np.uint8]:
    """Return the array of an IDX file with this MD5.

    Raises:
        FileNotFoundError: there is none.
        ValueError: the file is something else; the message tells how it differs.
    """
    with opened(path) as file:
        if path.suffix != ".gz":
            return _read(file, md5)
        try:
            with gzip.open(file) as content:
                return _read(content, md5)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"cannot be decompressed ({error})") from error


def _read(file: BinaryIO | gzip.GzipFile, md5: str) -> NDArray[np.uint8]:
    """Read what the header says, and a byte more: what has no end, or unpacks to far more, is
    corrupt.
    """
    magic = file.read(4)
    if len(magic) < 4:
        raise ValueError(f"is truncated ({len(magic):,} bytes)")
    if magic[:3] != b"\0\0\x08":
        raise ValueError(f"is no IDX file of bytes (it begins with {magic!r})")
    header = magic + file.read(4 * magic[3])
    if len(header) < 4 + 4 * magic[3]:
        raise ValueError(f"is truncated ({len(header):,} bytes)")
    dimensions = [int(size) for size in np.frombuffer(header, ">u4", offset=4)]
    size = math.prod(dimensions)
    if size > _MOST:
        raise ValueError(
            f"is corrupt (its header speaks of {size:,} bytes, more than are read of any dataset)"
        )
    content = file.read(size + 1)
    whole = len(header) + size
    if len(content) < size:
        raise ValueError(f"is truncated ({len(header) + len(content):,} of {whole:,} bytes)")
    if len(content) > size:
        raise ValueError(f"is corrupt (more than the {whole:,} bytes that its header speaks of)")
    digest = hashlib.md5(header, usedforsecurity=False)
    digest.update(content)
    if digest.hexdigest() != md5:
        raise ValueError(f"is corrupt ({whole:,} bytes, but not MD5 {md5})")
    return np.frombuffer(content, np.uint8).reshape(dimensions)


def _listed(problems: Mapping[str, str]) -> str:
    missing = [name for name, problem in problems.items() if problem == _MISSING]
    damaged = [problem for problem in problems.values() if problem != _MISSING]
    return "; ".join(
        damaged + ([f"missing: {', '.join(missing)} (also looked for as .gz)"] if missing else [])
    )


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def read_dataset(dataset: str, files: IdxFolder, download: bool) -> dict[str, NDArray[np.uint8]]:
    """`files.read`, with what a user needs to know when it fails.

    Raises:
        UserError: files are missing or damaged and cannot be had.
    """
    try:
        return files.read(download)
    except FileNotFoundError as error:
        off = "" if download else "; data.download=false forbids fetching them"
        raise UserError(
            f"{dataset} is not in {files.folder}: set data.root or DATA_ROOT to the folder above "
            f"{files.folder.parent.name}/, or use data=digits, which needs no download; "
            f"{error}{off}"
        ) from error
