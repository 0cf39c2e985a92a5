"""What can be asked of a trained run, by its folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from trialstack.core.errors import UserError
from trialstack.data.image_files import read_image
from trialstack.run import evaluation, prediction, restore
from trialstack.run.devices import pick_device
from trialstack.run.evaluation import Evaluation
from trialstack.run.folder import read_config
from trialstack.run.prediction import Prediction


def evaluate(
    folder: Path | str, split: str = "test", *, root: str | None = None, accelerator: str = "auto"
) -> Evaluation:
    """Measure a run's best weights.

    Args:
        folder: of the run.
        split: `test` or `val`.
        root: where the dataset lies now; None for where it lay.
        accelerator: `auto`, `cpu` or `gpu`.

    Raises:
        UserError: the checkpoint, the data or the device is not there.
    """
    if split not in ("test", "val"):
        raise UserError(f"split must be test or val, got {split!r}; try split='val'")
    folder = Path(folder)
    read_config(folder)  # which says what is no run folder
    device = pick_device(accelerator)
    classifier = restore.best_classifier(folder)
    data = restore.load_data(folder, root)
    samples = data.test_samples if split == "test" else data.val_samples
    return evaluation.evaluate(classifier, samples.to(device))


def predict(
    folder: Path | str,
    index: Sequence[Any] = (),
    images: Sequence[str | Path] = (),
    *,
    root: str | None = None,
    accelerator: str = "auto",
    invert: bool | str = "auto",
) -> list[Prediction]:
    """Classify images with a run's best weights.

    Args:
        folder: of the run.
        index: numbers of images in the test set; `["all"]` for all of it.
        images: files, in the place of that.
        root: where the dataset lies now; None for where it lay.
        accelerator: `auto`, `cpu` or `gpu`.
        invert: files are dark on light; `auto` where their border is.

    Raises:
        UserError: not exactly one of `index` and `images` is given; the checkpoint, the data, a
            file or the device is not there.
    """
    if bool(index) == bool(images):
        got = "both" if index else "neither"
        raise UserError(f"either index=[0, 1, 2] or images=['a.png'] is needed, got {got}")
    folder = Path(folder)
    read_config(folder)  # which says what is no run folder
    device = pick_device(accelerator)
    classifier = restore.best_classifier(folder)
    if images:
        pixels = [read_image(Path(file), classifier.spec.shape, invert) for file in images]
        normalized = classifier.spec.normalize(torch.stack(pixels)).to(device)
        return prediction.predict(classifier, list(map(str, images)), normalized)
    samples = restore.load_data(folder, root).test_samples
    numbers = prediction.sample_numbers(list(index), len(samples.labels))
    asked, labels = samples.images[numbers].to(device), samples.labels[numbers].tolist()
    return prediction.predict(classifier, list(map(str, numbers)), asked, labels)
