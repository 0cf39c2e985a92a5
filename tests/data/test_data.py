"""DataModules: splits, normalization, class names, and how a dataset is added."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from tests.conftest import Ended
from trialstack.core.errors import UserError
from trialstack.data.datamodule import MNIST, Arrays, Digits, FashionMNIST, ImageDataModule


def test_the_first_samples_validate_the_others_train_and_the_test_set_is_apart(
    data_root: Path,
) -> None:
    data = MNIST(str(data_root), val_size=5000)
    data.setup()
    train_images, train_labels, test_images, _ = data.read()
    assert [
        len(part.labels) for part in (data.val_samples, data.train_samples, data.test_samples)
    ] == [5000, 200, 60]
    torch.testing.assert_close(
        data.val_samples.images[7, 0] * 255, torch.tensor(train_images[7]).float()
    )
    torch.testing.assert_close(
        data.train_samples.images[0, 0] * 255, torch.tensor(train_images[5000]).float()
    )
    torch.testing.assert_close(
        data.test_samples.images[3, 0] * 255, torch.tensor(test_images[3]).float()
    )
    assert data.train_samples.labels.tolist() == train_labels[5000:].tolist()


def test_unit_is_from_0_to_1(data_root: Path) -> None:
    data = FashionMNIST(str(data_root))
    data.setup()
    assert [float(edge) for edge in data.train_samples.images.aminmax()] == [0, 1]
    assert data.train_samples.images.dtype == torch.float32


def test_standard_has_mean_0_and_deviation_1_over_what_trains(data_root: Path) -> None:
    data = FashionMNIST(str(data_root), normalize="standard")
    data.setup()
    pixels = data.train_samples.images.double()
    assert abs(pixels.mean()) < 1e-6  # float32 images
    assert abs(pixels.std(correction=0) - 1) < 1e-6
    assert abs(data.val_samples.images.double().mean()) > 1e-6


def test_every_sample_validates_in_one_fold_and_trains_in_the_others() -> None:
    validated = []
    for fold in range(4):
        data = Digits(folds=4, fold=fold, normalize="standard")
        data.setup()
        everything = data.all_samples.images
        start, stop = 375 * fold, 375 * (fold + 1)
        assert torch.equal(data.val_samples.images, everything[start:stop])
        assert torch.equal(
            data.train_samples.images, torch.cat([everything[stop:], everything[:start]])
        )
        assert abs(data.train_samples.images.double().mean()) < 1e-6  # of what trains
        validated.append(data.val_samples.labels)
    assert torch.equal(torch.cat(validated), data.all_samples.labels)


def test_digits_are_28_by_28_and_need_no_files() -> None:
    data = Digits(val_size=300)
    data.setup()
    assert data.spec is not None
    assert data.spec.shape == (1, 28, 28)
    assert [
        len(part.labels) for part in (data.train_samples, data.val_samples, data.test_samples)
    ] == [1200, 300, 297]
    assert data.train_samples.images.max() == 1


def test_class_names_are_part_of_the_dataset() -> None:
    assert FashionMNIST.class_names[9] == "Ankle boot"
    assert len(FashionMNIST.class_names) == len(MNIST.class_names) == 10


def test_torchvision_still_has_mirrors_and_checksums_for_our_files() -> None:
    for dataset in (MNIST, FashionMNIST):
        assert {f"{name}.gz" for name in dataset.md5} == {
            name for name, _ in dataset.source.resources
        }
        assert dataset.source.mirrors


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        (
            {"val_size": 1500},
            r"data\.val_size < 1500 must hold .* got 1500; try data\.val_size=150",
        ),
        ({"val_size": 300, "batch_size": 1201}, r"data\.batch_size <= 1200 must hold .* got 1201"),
    ],
)
def test_sizes_must_fit_the_dataset(settings: dict[str, int], rule: str) -> None:
    with pytest.raises(UserError, match=rule):
        Digits(settings.get("batch_size", 32), settings["val_size"]).setup()


def test_augmentation_changes_training_images_alone() -> None:
    flip = v2.RandomHorizontalFlip(p=1.0)
    data, plain = Digits(val_size=300, augment=[flip]), Digits(val_size=300)
    data.setup()
    plain.setup()
    flipped, expected = (
        next(iter(data.train_dataloader()))[0],
        next(iter(plain.train_dataloader()))[0],
    )
    assert torch.equal(flipped, expected.flip(-1))
    assert torch.equal(next(iter(data.val_dataloader()))[0], next(iter(plain.val_dataloader()))[0])


def test_colour_images_keep_their_channels() -> None:
    class Colours(ImageDataModule):
        dataset = "Colours"
        class_names = ("red", "green")

        def read(self) -> Arrays:
            images = np.zeros((20, 3, 4, 6), np.uint8)
            labels = np.arange(20, dtype=np.uint8) % 2
            return Arrays(images, labels, images, labels)

    data = Colours(batch_size=4, val_size=5)
    data.setup()
    assert data.spec is not None
    assert data.spec.shape == (3, 4, 6)
    assert len(data.checksums) == 4


GOOD = Arrays(
    np.zeros((20, 4, 4), np.uint8),
    np.zeros(20, np.uint8),
    np.zeros((5, 4, 4), np.uint8),
    np.ones(5, np.uint8),
)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            GOOD._replace(train_images=(GOOD.train_images / 255).astype(np.float32)),
            "must be uint8 .* got float32",
        ),
        (
            GOOD._replace(test_images=GOOD.test_images[:, :3]),
            r"all of one shape, got uint8 \[5, 3, 4\]",
        ),
        (
            GOOD._replace(train_labels=GOOD.train_labels[:12]),
            r"a label per train image, got \(12,\) for 20",
        ),
        (
            GOOD._replace(test_labels=GOOD.test_labels * 2),
            "test labels must be from 0 to 1 .* got 2 to 2",
        ),
        (
            GOOD._replace(test_images=GOOD.test_images[:0], test_labels=GOOD.test_labels[:0]),
            "got none",
        ),
    ],
)
def test_arrays_that_are_no_dataset_are_named(arrays: Arrays, message: str) -> None:
    class Wrong(ImageDataModule):
        dataset = "Wrong"
        class_names = ("a", "b")

        def read(self) -> Arrays:
            return arrays

    with pytest.raises(UserError, match=message):
        Wrong(batch_size=4, val_size=5).setup()


MODULE = '''
import numpy as np
from trialstack.data import Arrays, ImageDataModule

class Stripes(ImageDataModule):
    """Horizontal or vertical stripes."""

    dataset = "Stripes"
    class_names = ("horizontal", "vertical")

    def read(self) -> Arrays:
        labels = np.arange(400) % 2
        images = np.zeros((400, 28, 28), np.uint8)
        images[labels == 0, ::2] = 255
        images[labels == 1, :, ::2] = 255
        return Arrays(images[:300], labels[:300], images[300:], labels[300:])
'''


def test_a_dataset_is_added_with_one_class_and_one_yaml(
    command: Callable[..., Ended], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stripes.py").write_text(MODULE)
    (tmp_path / "myconf" / "data").mkdir(parents=True)
    (tmp_path / "myconf" / "data" / "stripes.yaml").write_text(
        "_target_: stripes.Stripes\nbatch_size: 32\nval_size: 50\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    ended = command(
        "train.py",
        "--config-dir",
        "myconf",
        "data=stripes",
        "trainer.max_epochs=3",
        "hydra.run.dir=run",
    )
    assert ended.code == 0, ended.err
    ended = command("predict.py", "run=run", "index=[0,1]")
    assert "[0 1] ['horizontal' 'vertical']" in ended.out, ended.err
