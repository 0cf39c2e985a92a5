"""A folder with a dataset's files: found, verified, and downloaded whole or not at all."""

import logging
import shutil
import socket
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from filelock import FileLock
from torchvision.datasets.utils import download_and_extract_archive

from trialstack.core.errors import UserError

log = logging.getLogger(__name__)

Content = TypeVar("Content")

_MISSING = "is missing"


class Archive(NamedTuple):
    """What is downloaded.

    Attributes:
        urls: where it is; where one fails, the next one is tried.
        md5: of the archive.
        members: by a file of the dataset, its path in the unpacked archive.
    """

    urls: Sequence[str]
    md5: str
    members: Mapping[str, str]


class DatasetFolder(ABC, Generic[Content]):
    """The files of a dataset.

    Args:
        root: where datasets lie.
        below: folder of this one in it.
        copies: by file, the names that it may have there; the first one that is whole is read.
        archives: what files come from of which no copy is whole.
    """

    def __init__(
        self,
        root: Path,
        below: str,
        copies: Mapping[str, Sequence[str]],
        archives: Sequence[Archive],
    ) -> None:
        self.folder = root / below
        self.top = Path(below).parts[0]
        self.copies = copies
        self.archives = archives

    @abstractmethod
    def load(self, path: Path) -> Content:
        """Return what is in a copy of a file.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is something else; the message, which follows its name, tells how it
                differs.
        """

    def read(self, download: bool) -> dict[str, Content]:
        """Return what is in every file, by file, after fetching what is missing or damaged if
        `download` allows it.

        Raises:
            FileNotFoundError: files are missing or damaged and cannot be had; the message names
                each and why.
        """
        contents, problems = self._whole()
        if problems and download:
            self._download()
            contents, problems = self._whole()
        if problems:
            raise FileNotFoundError(self._listed(problems))
        return contents

    def _whole(self) -> tuple[dict[str, Content], dict[str, str]]:
        """Read every file that is whole, and tell by name what is wrong with the others."""
        contents: dict[str, Content] = {}
        problems: dict[str, str] = {}
        for name, copies in self.copies.items():
            for path in (self.folder / copy for copy in copies):
                try:
                    contents[name] = self.load(path)
                    break
                except FileNotFoundError:
                    problems.setdefault(name, _MISSING)
                except (OSError, ValueError) as error:
                    problems[name] = f"{path} {error}"
        for name in contents.keys() & problems.keys():
            if (problem := problems.pop(name)) != _MISSING:
                log.warning("%s: the other copy of it is used", problem)
        return contents, problems

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
                f"{self._listed(self._whole()[1])}; {self.folder} cannot be written"
            ) from error
        try:
            problems = self._whole()[1]  # another process may have fetched some meanwhile
            for problem in problems.values():
                if problem != _MISSING:
                    log.warning("%s: fetching it anew", problem)
            for archive in self.archives:
                if names := archive.members.keys() & problems.keys():
                    self._fetch(archive, names)
        finally:
            lock.release()

    def _fetch(self, archive: Archive, names: Collection[str]) -> None:
        temporary = self.folder / ".download"
        reasons = []
        for url in archive.urls:
            shutil.rmtree(temporary, ignore_errors=True)  # what an interrupted download left
            try:
                with _socket_timeout(30):
                    download_and_extract_archive(
                        url, str(temporary), filename=url.rpartition("/")[2], md5=archive.md5
                    )
                self._keep([temporary / archive.members[name] for name in names])
                return
            except (OSError, RuntimeError, HTTPException, EOFError, ValueError) as error:
                reasons.append(f"{url}: {error}")
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
        raise FileNotFoundError(
            f"{self._listed(self._whole()[1])}; download failed ({'; '.join(reasons)})"
        )

    def _keep(self, paths: Sequence[Path]) -> None:
        for path in paths:
            self.load(path)
        for path in paths:
            path.replace(self.folder / path.name)

    def _listed(self, problems: Mapping[str, str]) -> str:
        missing = [name for name, problem in problems.items() if problem == _MISSING]
        damaged = [problem for problem in problems.values() if problem != _MISSING]
        also = (
            " (also looked for as .gz)"
            if any(len(self.copies[name]) > 1 for name in missing)
            else ""
        )
        return "; ".join(damaged + ([f"missing: {', '.join(missing)}{also}"] if missing else []))


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def read_dataset(dataset: str, files: DatasetFolder[Content], download: bool) -> dict[str, Content]:
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
            f"{files.top}/, or use data=digits, which needs no download; {error}{off}"
        ) from error
