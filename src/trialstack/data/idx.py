"""IDX files, MNIST's format.

Two zero bytes, a type byte (8 for uint8), the number of dimensions, each dimension as a big-endian
uint32, data.
"""

import gzip
import hashlib
import math
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from trialstack.core.untrusted import opened
from trialstack.data.dataset_folder import Archive, DatasetFolder

_MOST = 2**30
"""Bytes of an array; EMNIST's largest has 98 million."""


class IdxFolder(DatasetFolder[NDArray[np.uint8]]):
    """A folder of IDX files, each as `NAME` or `NAME.gz`.

    Args:
        root: where datasets lie.
        below: folder of this one in it.
        md5: expected MD5 of every file's uncompressed bytes, by name. Where it is not known (None),
            `NAME.gz` is read first, which has a checksum of its own.
        archives: what files come from.
    """

    def __init__(
        self,
        root: Path,
        below: str,
        md5: Mapping[str, str | None],
        archives: Sequence[Archive],
    ) -> None:
        copies = {
            name: (f"{name}.gz", name) if known is None else (name, f"{name}.gz")
            for name, known in md5.items()
        }
        super().__init__(root, below, copies, archives)
        self.md5 = md5

    def load(self, path: Path) -> NDArray[np.uint8]:
        md5 = self.md5[path.name.removesuffix(".gz")]
        with opened(path) as file:
            if path.suffix != ".gz":
                return _read(file, md5)
            try:
                with gzip.open(file) as content:
                    return _read(content, md5)
            except (OSError, EOFError, zlib.error) as error:
                raise ValueError(f"cannot be decompressed ({error})") from error


def _read(file: BinaryIO | gzip.GzipFile, md5: str | None) -> NDArray[np.uint8]:
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
    if md5 is not None and digest.hexdigest() != md5:
        raise ValueError(f"is corrupt ({whole:,} bytes, but not MD5 {md5})")
    return np.frombuffer(content, np.uint8).reshape(dimensions)
