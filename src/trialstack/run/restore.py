"""What a run left, read back: its classifier and its data."""

from pathlib import Path

from omegaconf import OmegaConf
from torch import Tensor

from trialstack.core import layout
from trialstack.core.build import build
from trialstack.core.errors import UserError
from trialstack.data.datamodule import ImageDataModule
from trialstack.engine.eager import Classifier
from trialstack.run.checkpoints import arguments, read_checkpoint
from trialstack.run.folder import read_config


def load_classifier(checkpoint: Path) -> Classifier:
    """Return the classifier of a checkpoint, in evaluation mode on the CPU.

    Raises:
        UserError: the file is missing, damaged or not ours, or needs a model that is not there.
    """
    content = read_checkpoint(checkpoint)
    classifier = Classifier(**arguments(content))
    try:
        if classifier.own is not None:
            classifier.own.on_load_checkpoint(content)
        (classifier.own or classifier).load_state_dict(content["state_dict"])
    except RuntimeError as error:
        raise UserError(
            f"the weights in {checkpoint} do not fit "
            f"{classifier.model_group.get('_target_')}: the model's code has changed; restore it, "
            "or train anew"
        ) from error
    return classifier.eval()


def best_classifier(folder: Path) -> Classifier:
    """Return a run's classifier with its best weights.

    Raises:
        UserError: as `load_classifier`, or the model trains itself and gives no logits.
    """
    classifier = load_classifier(folder / layout.BEST)
    if classifier.own is not None:
        try:
            classifier.check_shapes()
        except UserError as error:
            raise UserError(
                f"{folder} has no classifier that could be asked for classes: {error}; load it in "
                f"your own code, with {type(classifier.own).__name__}.load_from_checkpoint"
            ) from error
    return classifier.eval()


def load_data(folder: Path, root: str | None) -> ImageDataModule:
    """Return a run's data, set up on the CPU.

    Args:
        folder: the run folder.
        root: where the dataset lies now; None for where it lay.

    Raises:
        UserError: it is not there.
    """
    data = _data(folder, root)
    data.setup()
    return data


def load_test_images(folder: Path, root: str | None) -> Tensor:
    """Return a run's test images as they are on disk, uint8 [n, channels, height, width].

    Args:
        folder: the run folder.
        root: where the dataset lies now; None for where it lay.

    Raises:
        UserError: they are not there.
    """
    return _data(folder, root).read_test_images()


def _data(folder: Path, root: str | None) -> ImageDataModule:
    settings = OmegaConf.to_container(read_config(folder).data, resolve=True)
    assert isinstance(settings, dict)
    values = {str(key): value for key, value in settings.items()} | {"augment": None}
    return build("data", values | ({"root": root} if root is not None else {}), ImageDataModule)
