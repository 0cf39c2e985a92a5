"""Datasets as LightningDataModules: in memory, normalized, on the device once.

Shapes: n samples; raw images are uint8 [n, height, width] or [n, channels, height, width], labels
[n].
"""

import hashlib
import string
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import torch
import torchvision
from lightning.pytorch import LightningDataModule
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms import v2

from trialstack.core.errors import UserError
from trialstack.core.sizes import EVALUATION_BATCH, check_folds, check_sizes, validating
from trialstack.data.dataset_folder import Archive, read_dataset
from trialstack.data.idx import IdxFolder
from trialstack.data.image_spec import UNIT, ImageSpec
from trialstack.data.minibatches import Batch, OrderedMinibatches, Samples, ShuffledMinibatches


class Arrays(NamedTuple):
    """A dataset as it is on disk."""

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.uint8]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.uint8]


class ImageDataModule(LightningDataModule):
    """A dataset that fits in memory. A subclass gives `dataset`, `class_names` and `read`.

    After `setup`, `train_samples`, `val_samples` and `test_samples` are there, on the trainer's
    device, and `all_samples`, of which the former two are made, with `spec` and `checksums` (MD5
    sums that tell whether two runs had the same data).

    Args:
        batch_size: samples in a training minibatch.
        val_size: how many samples at the beginning of the training set validate; the others train.
        normalize: `unit` (0..1) or `standard` (of each channel mean 0, deviation 1 over the samples
            that train).
        augment: transforms of torchvision.transforms.v2 for training images, after normalization.
        seed: of the order of the training samples.
        folds: parts of the training set that validate in turn, in the place of `val_size`.
        fold: the part that does. The samples behind it train first in order, then those before it.
    """

    dataset: ClassVar[str]
    class_names: ClassVar[tuple[str, ...]]

    def __init__(
        self,
        batch_size: int = 32,
        val_size: int = 5000,
        normalize: str = "unit",
        augment: Sequence[Callable[[Tensor], Tensor]] | None = None,
        seed: int = 1,
        folds: int | None = None,
        fold: int = 0,
    ) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.val_size = val_size
        self.normalize = normalize
        self.augment = v2.Compose(list(augment)) if augment else None
        self.seed = seed
        self.folds = folds
        self.fold = fold
        self.spec: ImageSpec | None = None

    def prepare_data(self) -> None:
        """Have the dataset's files there, before anything is written of a run.

        Raises:
            UserError: they are missing or damaged, and cannot be had.
        """

    def read(self) -> Arrays:
        """Return the whole dataset; called once."""
        raise NotImplementedError

    def read_test_images(self) -> Tensor:
        """Return the test images as they are on disk, uint8 [n, channels, height, width]; this
        needs no `setup`.

        Raises:
            UserError: the data is missing or damaged.
        """
        arrays = self.read()
        _check_arrays(arrays, self.dataset, len(self.class_names))
        return _with_channels(arrays.test_images)

    def setup(self, stage: str | None = None) -> None:
        """Read, split and normalize the dataset, and bring it to the trainer's device (the CPU
        without a trainer).

        Raises:
            UserError: the data is missing or damaged, or `val_size`, `batch_size` or `augment` do
                not fit it.
        """
        if self.spec is not None:
            return
        arrays = self.read()
        train_images, train_labels, test_images, test_labels = arrays
        self.checksums = self._checksums(arrays)
        _check_arrays(arrays, self.dataset, len(self.class_names))
        self.check_sizes(len(train_labels))
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        images_uint8 = _with_channels(train_images)
        channels, height, width = images_uint8.shape[1:]
        trained = _outside(self.validating(len(images_uint8)), images_uint8)
        moments = (
            [UNIT] * channels
            if self.normalize == "unit"
            else [_moments(trained[:, channel]) for channel in range(channels)]
        )
        mean, deviation = zip(*moments, strict=True)
        self.spec = ImageSpec(
            self.dataset, self.class_names, (channels, height, width), mean, deviation
        )
        self.all_samples = self._samples(images_uint8, train_labels, device)
        self.split(self.fold)
        self.test_samples = self._samples(_with_channels(test_images), test_labels, device)
        self._check_augment()

    def validating(self, samples: int, fold: int | None = None) -> range:
        """Return which of so many samples validate, in a fold or in this one's."""
        fold = self.fold if fold is None else fold
        return validating(samples, self.val_size, self.folds, fold)

    def split(self, fold: int) -> None:
        """Divide all samples into those that train and those that validate."""
        images, labels = self.all_samples
        val = self.validating(len(labels), fold)
        self.fold = fold
        self.val_samples = Samples(images[val.start : val.stop], labels[val.start : val.stop])
        self.train_samples = Samples(_outside(val, images), _outside(val, labels))

    def _checksums(self, arrays: Arrays) -> dict[str, str]:
        return {
            part: hashlib.md5(array.tobytes()).hexdigest()
            for part, array in arrays._asdict().items()
        }

    def _samples(
        self, images_uint8: Tensor, labels: NDArray[np.uint8], device: torch.device
    ) -> Samples:
        assert self.spec is not None
        # normalized on the CPU: a GPU divides with other last bits
        samples = Samples(
            self.spec.normalize(images_uint8), torch.from_numpy(labels.astype(np.int64))
        )
        return samples.to(device)

    def check_sizes(self, samples: int | None = None) -> None:
        """Check `val_size` and `batch_size` against the training set, by default the one that is
        there.

        Raises:
            UserError: they do not fit it.
        """
        samples = samples or len(self.all_samples.labels)
        check_folds(self.dataset, samples, self.folds)
        check_sizes(self.dataset, samples, len(self.validating(samples)), self.batch_size)

    def balanced_weights(self, fold: int) -> list[float]:
        """Return weights [C] with which all classes count the same in training: samples over
        classes and the samples of each.

        Raises:
            UserError: a class has no samples.
        """
        everything, classes = self.all_samples.labels, len(self.class_names)
        labels = _outside(self.validating(len(everything), fold), everything)
        counts = torch.bincount(labels, minlength=classes).tolist()
        if 0 in counts:
            raise UserError(
                "loss.class_weights=balanced needs samples of every class in training, got none of "
                f"{self.class_names[counts.index(0)]}; give a list"
            )
        return [len(labels) / (classes * count) for count in counts]

    def _check_augment(self) -> None:
        if self.augment is None:
            return
        image = self.train_samples.images[0]
        try:
            shape = self.augment(image).shape
        except Exception as error:
            raise UserError(
                f"data.augment does not take images {list(image.shape)}: {error}"
            ) from error
        if shape != image.shape:
            raise UserError(
                f"data.augment must keep the images {list(image.shape)}, got {list(shape)}"
            )

    def train_dataloader(self) -> ShuffledMinibatches:
        return ShuffledMinibatches(
            self.train_samples, self.batch_size, self.seed, self.augment, *self._process()
        )

    def val_dataloader(self) -> OrderedMinibatches:
        return OrderedMinibatches(self.val_samples, EVALUATION_BATCH, *self._process())

    def test_dataloader(self) -> OrderedMinibatches:
        return OrderedMinibatches(self.test_samples, EVALUATION_BATCH, *self._process())

    def _process(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        """Minibatches are made on the device."""
        return batch


class StoredDataModule(ImageDataModule):
    """A dataset of files in torchvision's layout below `root`, which can be downloaded."""

    def __init__(
        self,
        root: str = "data",
        batch_size: int = 32,
        val_size: int = 5000,
        normalize: str = "unit",
        download: bool = True,
        augment: Sequence[Callable[[Tensor], Tensor]] | None = None,
        seed: int = 1,
        folds: int | None = None,
        fold: int = 0,
    ) -> None:
        super().__init__(batch_size, val_size, normalize, augment, seed, folds, fold)
        self.root = Path(root).expanduser()
        self.download = download

    def prepare_data(self) -> None:
        if self.spec is None:  # else they have been read
            self.read()


class _IdxDataModule(StoredDataModule):
    """MNIST and what has its file format.

    `md5` has the uncompressed files, in the order of `Arrays`, each with its checksum if that is
    known: torchvision's are of what is downloaded.
    """

    source: ClassVar[type[torchvision.datasets.MNIST]]
    md5: ClassVar[Mapping[str, str | None]]

    def read(self) -> Arrays:
        below = f"{self.source.__name__}/raw"
        files = IdxFolder(self.root, below, self.md5, self._archives())
        arrays = read_dataset(self.dataset, files, self.download)
        return Arrays(*(arrays[name] for name in self.md5))

    def _archives(self) -> list[Archive]:
        sums = dict(self.source.resources)
        return [
            Archive(
                [f"{mirror}{name}.gz" for mirror in self.source.mirrors],
                sums[f"{name}.gz"],
                {name: name if md5 else f"{name}.gz"},
            )
            for name, md5 in self.md5.items()
        ]

    def _checksums(self, arrays: Arrays) -> dict[str, str]:
        # those that are known, read_dataset has verified
        known = {name: md5 for name, md5 in self.md5.items() if md5 is not None}
        return known or super()._checksums(arrays)


class MNIST(_IdxDataModule):
    """Handwritten digits (LeCun, Cortes, Burges)."""

    dataset = "MNIST"
    class_names = tuple("0123456789")
    source = torchvision.datasets.MNIST
    md5 = {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    }


class FashionMNIST(_IdxDataModule):
    """Pictures of clothes (Xiao, Rasul, Vollgraf: arXiv 1708.07747)."""

    dataset = "Fashion-MNIST"
    class_names = (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    )
    source = torchvision.datasets.FashionMNIST
    md5 = {
        "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
        "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
        "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    }


class KMNIST(_IdxDataModule):
    """Kuzushiji-MNIST, cursive Japanese letters (Clanuwat et al.: arXiv 1812.01718)."""

    dataset = "KMNIST"
    class_names = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
    source = torchvision.datasets.KMNIST
    md5 = dict.fromkeys(MNIST.md5)


class EMNIST(_IdxDataModule):
    """Handwritten letters, capital and small ones as one class (Cohen, Afshar, Tapson, van Schaik:
    arXiv 1702.05373).

    Its files have the images transposed and number the classes from 1; torchvision leaves them so,
    with a class of no samples before `a`. Here images are upright, and `a` is class 0.
    """

    dataset = "EMNIST letters"
    class_names = tuple(string.ascii_lowercase)
    source = torchvision.datasets.EMNIST
    md5 = dict.fromkeys(
        f"emnist-letters-{part}-ubyte"
        for part in (
            "train-images-idx3",
            "train-labels-idx1",
            "test-images-idx3",
            "test-labels-idx1",
        )
    )

    def read(self) -> Arrays:
        train_images, train_labels, test_images, test_labels = super().read()
        return Arrays(
            _upright(train_images), train_labels - 1, _upright(test_images), test_labels - 1
        )

    def _archives(self) -> list[Archive]:
        members = {name: f"gzip/{name}.gz" for name in self.md5}
        return [Archive([self.source.url], self.source.md5, members)]


class Digits(ImageDataModule):
    """scikit-learn's 1,797 digits of 8x8 pixels, enlarged to 28x28; the last 297 are the test
    set.
    """

    dataset = "Digits"
    class_names = tuple("0123456789")

    def read(self) -> Arrays:
        from sklearn.datasets import load_digits

        bunch = load_digits()
        small = torch.from_numpy(bunch.images)[:, None] * (255 / 16)
        large = torch.nn.functional.interpolate(small, size=(28, 28), mode="bilinear")
        images = large.round().to(torch.uint8)[:, 0].numpy()
        labels = bunch.target.astype(np.uint8)
        return Arrays(images[:1500], labels[:1500], images[1500:], labels[1500:])


def _check_arrays(arrays: Arrays, dataset: str, classes: int) -> None:
    for part, images, labels in (
        ("train", arrays.train_images, arrays.train_labels),
        ("test", arrays.test_images, arrays.test_labels),
    ):
        if (
            images.dtype != np.uint8
            or images.ndim not in (3, 4)
            or images.shape[1:] != arrays.train_images.shape[1:]
        ):
            raise UserError(
                f"{dataset}'s {part} images must be uint8 (0..255) [n, height, width] or [n, "
                f"channels, height, width], all of one shape, got {images.dtype} "
                f"{list(images.shape)}"
            )
        if labels.shape != images.shape[:1]:
            raise UserError(
                f"{dataset} must have a label per {part} image, got {labels.shape} for "
                f"{len(images)} images"
            )
        if len(labels) == 0 or labels.min() < 0 or labels.max() >= classes:
            got = f"{labels.min()} to {labels.max()}" if len(labels) else "none"
            raise UserError(
                f"{dataset}'s {part} labels must be from 0 to {classes - 1} (its class_names), got "
                f"{got}"
            )


def _outside(part: range, samples: Tensor) -> Tensor:
    """The samples behind a part, and then those before it."""
    behind, before = samples[part.stop :], samples[: part.start]
    return torch.cat([behind, before]) if len(before) else behind


def _upright(transposed: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What are no images [n, height, width] stays, to be refused with all that are none."""
    return np.ascontiguousarray(transposed.swapaxes(1, 2)) if transposed.ndim == 3 else transposed


def _with_channels(images: NDArray[np.uint8]) -> Tensor:
    tensor = torch.from_numpy(np.array(images))
    return tensor[:, None] if tensor.dim() == 3 else tensor


def _moments(images_uint8: Tensor) -> tuple[float, float]:
    """Mean and deviation of pixels scaled to 0..1, from exact integer sums; of pixels that are all
    the same, 1 for the deviation.
    """
    count = images_uint8.numel()
    mean = images_uint8.sum(dtype=torch.int64).item() / count
    mean_square = images_uint8.to(torch.int32).square_().sum(dtype=torch.int64).item() / count
    return mean / 255, (mean_square - mean**2) ** 0.5 / 255 or 1.0
