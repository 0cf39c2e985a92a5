"""CIFAR-10, from the pickles of torchvision's layout, without running what they name.

Shapes: n samples.
"""

import hashlib
import io
import pickle
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torchvision
from numpy.typing import NDArray

from trialstack.core.untrusted import opened
from trialstack.data.datamodule import Arrays, StoredDataModule
from trialstack.data.dataset_folder import Archive, DatasetFolder, read_dataset

_MOST = 2**26
"""Bytes of a file; the largest has 31 million."""


class CIFAR10(StoredDataModule):
    """Photographs of vehicles and animals (Krizhevsky: Learning Multiple Layers of Features from
    Tiny Images, 2009).
    """

    dataset = "CIFAR-10"
    class_names = (
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    )
    source = torchvision.datasets.CIFAR10
    md5: ClassVar[dict[str, str]] = {
        **dict(source.train_list),
        **dict(source.test_list),
        source.meta["filename"]: source.meta["md5"],
    }

    def read(self) -> Arrays:
        below = self.source.base_folder
        members = {name: f"{below}/{name}" for name in self.md5}
        archive = Archive([self.source.url], self.source.tgz_md5, members)
        files = PickleFolder(self.root, below, self.md5, archive)
        contents = read_dataset(self.dataset, files, self.download)
        train = [read_batch(contents[name]) for name, _ in self.source.train_list]
        images, labels = (np.concatenate(parts) for parts in zip(*train, strict=True))
        [(name, _)] = self.source.test_list
        return Arrays(images, labels, *read_batch(contents[name]))

    def _checksums(self, arrays: Arrays) -> dict[str, str]:
        return dict(self.md5)  # read_dataset has verified them


class PickleFolder(DatasetFolder[bytes]):
    """A folder of files that are known by their MD5, by name, and come from one archive."""

    def __init__(self, root: Path, below: str, md5: dict[str, str], archive: Archive) -> None:
        super().__init__(root, below, {name: (name,) for name in md5}, [archive])
        self.md5 = md5

    def load(self, path: Path) -> bytes:
        with opened(path) as file:
            content = file.read(_MOST)
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != self.md5[path.name]:
            raise ValueError(
                f"is truncated or corrupt ({len(content):,} bytes, but not MD5 "
                f"{self.md5[path.name]})"
            )
        return content


def read_batch(content: bytes) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return images [n, 3, 32, 32] and labels [n] of a batch: a pickle of Python 2, of a dictionary
    with an array `data`, [n, 3072], and a list `labels`.
    """
    batch = _Inert(io.BytesIO(content), encoding="latin1").load()
    _, shape, _, by_columns, pixels = batch["data"].state  # of an array, as numpy writes it
    rows = np.frombuffer(pixels.encode("latin1"), np.uint8)
    rows = rows.reshape(shape, order="F" if by_columns else "C")
    return rows.reshape(-1, 3, 32, 32), np.array(batch["labels"], np.uint8)


class _Named:
    """In place of any class or function that a pickle names: keeps what that would be given."""

    def __init__(self, *arguments: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Inert(pickle.Unpickler):
    """Imports and calls nothing that a pickle names."""

    def find_class(self, module: str, name: str) -> type[_Named]:
        return _Named
