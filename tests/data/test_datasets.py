"""KMNIST, EMNIST and CIFAR-10: downloaded, verified, and as a network sees them."""

import gzip
import io
import os
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torchvision.transforms import v2

from tests.conftest import Ended, idx_bytes, idx_files, md5s
from tests.data.conftest import Mirror
from trialstack.core.errors import UserError
from trialstack.core.sizes import DATASETS
from trialstack.data import CIFAR10, EMNIST, KMNIST, MNIST
from trialstack.data.cifar import read_batch

Command = Callable[..., Ended]

COLOURS = np.random.default_rng(0).integers(0, 256, (6, 4, 3, 32, 32), np.uint8)
"""Images of six batches."""


class Python2Pickler(pickle._Pickler):
    """Writes bytes as Python 2 wrote its strings."""

    dispatch = pickle._Pickler.dispatch | {
        bytes: lambda self, value: self.write(b"T" + struct.pack("<i", len(value)) + value)
    }


def batch(rows: np.ndarray, labels: list[int]) -> bytes:
    """Return a batch as CIFAR-10's authors wrote it."""
    stream = io.BytesIO()
    content = {b"data": rows, b"labels": labels}
    Python2Pickler(stream, protocol=2).dump(content)
    return stream.getvalue().replace(b"numpy._core", b"numpy.core")


CIFAR_FILES = {
    name: batch(images.reshape(4, -1), [3, 9, 0, 5])
    for name, images in zip([*list(CIFAR10.md5)[:5], "test_batch"], COLOURS, strict=True)
} | {"batches.meta": b"names"}


def tar_gz(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{CIFAR10.source.base_folder}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


@pytest.fixture
def cifar(tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small CIFAR-10 on the mirror; its folder."""
    archive = tar_gz(CIFAR_FILES)
    mirror.contents = {"cifar.tar.gz": archive}
    monkeypatch.setattr(CIFAR10, "md5", md5s(CIFAR_FILES))
    monkeypatch.setattr(CIFAR10.source, "url", f"{mirror.url}cifar.tar.gz")
    monkeypatch.setattr(CIFAR10.source, "tgz_md5", md5s({"": archive})[""])
    return tmp_path / "cifar-10-batches-py"


def test_cifar10_is_downloaded_once_in_torchvisions_layout(
    cifar: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        arrays = CIFAR10(str(cifar.parent)).read()
    assert mirror.fetched == ["cifar.tar.gz"]
    assert {path.name for path in cifar.iterdir()} - {".lock"} == set(CIFAR_FILES)
    np.testing.assert_array_equal(arrays.train_images, COLOURS[:5].reshape(-1, 3, 32, 32))
    np.testing.assert_array_equal(arrays.test_images, COLOURS[5])
    assert arrays.train_labels.tolist() == [3, 9, 0, 5] * 5
    sums = [[name, md5s(CIFAR_FILES)[name]] for name in list(CIFAR_FILES)[:5]]
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "train_list", sums)
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "_load_meta", lambda self: None)
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "_check_integrity", lambda self: True)
    theirs = torchvision.datasets.CIFAR10(str(cifar.parent))
    np.testing.assert_array_equal(theirs.data.transpose(0, 3, 1, 2), arrays.train_images)
    assert theirs.targets == arrays.train_labels.tolist()


def test_a_damaged_batch_is_named_and_nothing_of_it_is_unpickled(
    cifar: Path, mirror: Mirror
) -> None:
    cifar.mkdir()
    for name, content in CIFAR_FILES.items():
        (cifar / name).write_bytes(content)
    (cifar / "data_batch_2").write_bytes(CIFAR_FILES["data_batch_2"][:99])
    with pytest.raises(UserError, match=r"data_batch_2 is truncated or corrupt \(99 bytes") as said:
        CIFAR10(str(cifar.parent), download=False).read()
    assert f"the folder above {CIFAR10.source.base_folder}/," in str(said.value)
    assert "\n" not in str(said.value)
    CIFAR10(str(cifar.parent)).read()
    assert (cifar / "data_batch_2").read_bytes() == CIFAR_FILES["data_batch_2"]


def test_an_array_may_be_written_by_columns() -> None:
    rows = np.asfortranarray(COLOURS[0].reshape(4, -1))
    np.testing.assert_array_equal(read_batch(batch(rows, [0] * 4))[0], COLOURS[0])


class Harmful:
    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("made",)


def test_what_a_batch_names_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AttributeError, match="state"):
        read_batch(pickle.dumps({"data": Harmful(), "labels": []}, protocol=2))
    assert not Path("made").exists()
    pickle.loads(pickle.dumps(Harmful()))
    assert Path("made").exists()


def test_standard_is_of_each_channel(cifar: Path) -> None:
    data = CIFAR10(str(cifar.parent), 4, 4, "standard")
    data.setup()
    pixels = data.train_samples.images.double()
    for channel in range(3):
        assert abs(pixels[:, channel].mean()) < 1e-6  # float32 images
        assert abs(pixels[:, channel].std(correction=0) - 1) < 1e-6
    assert data.spec is not None
    restored = data.spec.from_primitives(data.spec.primitives())
    assert restored == data.spec
    shown = restored.to_unit(data.val_samples.images) * 255
    torch.testing.assert_close(shown, torch.tensor(COLOURS[0]).float(), atol=1e-3, rtol=0)


def test_augmentation_keeps_the_channels_together(cifar: Path) -> None:
    flip = v2.RandomHorizontalFlip(p=1.0)
    plain, flipped = (CIFAR10(str(cifar.parent), 4, 4, augment=each) for each in ([], [flip]))
    images = []
    for data in (plain, flipped):
        data.setup()
        images.append(next(iter(data.train_dataloader()))[0])
    assert torch.equal(images[0].flip(-1), images[1])


def test_emnists_letters_are_upright_and_begin_with_a(
    tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels = np.arange(3 * 28 * 28).reshape(3, 28, 28) % 251, np.array([1, 26, 3])
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in [*EMNIST.md5, "emnist-digits-train-images-idx3-ubyte"]:
            content = idx_bytes(images if "images" in name else labels)
            archive.writestr(f"gzip/{name}.gz", gzip.compress(content))
    mirror.contents = {"gzip.zip": stream.getvalue()}
    monkeypatch.setattr(EMNIST.source, "url", f"{mirror.url}gzip.zip")
    monkeypatch.setattr(EMNIST.source, "md5", md5s(dict(mirror.contents))["gzip.zip"])
    arrays = EMNIST(str(tmp_path)).read()
    assert [EMNIST.class_names[label] for label in arrays.train_labels] == ["a", "z", "c"]
    np.testing.assert_array_equal(arrays.test_images, images.transpose(0, 2, 1))
    assert EMNIST(str(tmp_path))._checksums(arrays).keys() == set(arrays._fields)
    kept = {path.name for path in (tmp_path / "EMNIST" / "raw").iterdir()} - {".lock"}
    assert kept == {f"{name}.gz" for name in EMNIST.md5}


def test_kmnist_is_downloaded_with_torchvisions_checksums(
    tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = idx_files(20, 5)
    mirror.contents = {f"{name}.gz": gzip.compress(files[name]) for name in KMNIST.md5}
    monkeypatch.setattr(KMNIST.source, "mirrors", [mirror.url])
    with pytest.raises(UserError, match=r"KMNIST is not in .*download failed .*corrupted"):
        KMNIST(str(tmp_path)).read()
    monkeypatch.setattr(KMNIST.source, "resources", list(md5s(dict(mirror.contents)).items()))
    arrays = KMNIST(str(tmp_path)).read()
    assert (len(arrays.train_labels), len(arrays.test_labels)) == (20, 5)


def test_class_names_are_torchvisions() -> None:
    assert list(KMNIST.class_names) == KMNIST.source.classes
    assert ["N/A", *EMNIST.class_names] == EMNIST.source.classes_split_dict["letters"]
    assert DATASETS["trialstack.data.EMNIST"].classes == 26
    assert list(MNIST.md5) == list(KMNIST.md5)


def test_colour_images_are_trained_evaluated_and_predicted(
    cifar: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA_ROOT", str(cifar.parent))
    few = ("data.val_size=4", "data.batch_size=4", "trainer.max_epochs=1", "model.hidden=[8]")
    sweep = ("-m", "optimizer.lr=0.1,0.01", "data.normalize=standard", "sweep=s")
    ended = command("train.py", "data=cifar10", *few, *sweep)
    assert ended.code == 0, ended.err
    assert "stack 1 of 1: 2 trials" in ended.out + ended.err
    run = "run=outputs/sweeps/s/0"
    ended = command("evaluate.py", run)
    assert ended.code == 0, ended.err
    Image.fromarray(COLOURS[5][0].transpose(1, 2, 0)).save("cat.png")
    lines = [
        command("predict.py", run, chosen).out.splitlines()[-1]
        for chosen in ("index=[0]", "images=[cat.png]")
    ]
    assert lines[0] == lines[1]
