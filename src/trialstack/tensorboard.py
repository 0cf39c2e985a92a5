"""What TensorBoard shows of a run besides its curves."""

import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torchvision
from lightning.pytorch.loggers import Logger, TensorBoardLogger

from trialstack.classifier import Classifier
from trialstack.evaluation import Evaluation
from trialstack.figures import confusion_figure, mistakes_figure, weight_images

log = logging.getLogger(__name__)


def describe(
    loggers: Sequence[Logger], classifier: Classifier | None, config: Mapping[str, Any], config_yaml: str
) -> None:
    """Write the hyperparameters, the config as text and, of `classifier`, the model's graph."""
    for logger in loggers:
        logger.log_hyperparams(_hyperparameters(config))
    for writer in _writers(loggers):
        writer.add_text("config", f"```yaml\n{config_yaml}\n```")
        if classifier is None:
            continue
        example = classifier.example_input_array
        assert isinstance(example, torch.Tensor)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch.jit.trace is deprecated, and still how TensorBoard gets graphs
                writer.add_graph(classifier.network, example)
        except Exception as error:  # a network that cannot be traced trains all the same
            log.warning("TensorBoard gets no graph of this model: %s", str(error).splitlines()[0])


def begin_anew(loggers: Sequence[Logger], folder: Path) -> None:
    """Remove the events that TensorBoard loggers have in a run's folder; elsewhere they may be others'."""
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger) and Path(logger.log_dir).resolve().is_relative_to(folder.resolve()):
            for file in Path(logger.log_dir).glob("events.out.tfevents.*"):
                file.unlink()


def conclude(
    loggers: Sequence[Logger],
    step: int,
    config: Mapping[str, Any],
    metrics: Mapping[str, float],
    classifier: Classifier,
    test: Evaluation | None,
    test_images: torch.Tensor,
    pictures: bool,
) -> None:
    """Write hyperparameters with final metrics and, where wanted, pictures of first-layer weights and of the test.

    Args:
        loggers: the trainer's; other kinds than TensorBoard's get the metrics alone.
        step: optimizer steps of the run.
        config: the resolved config.
        metrics: the final value of every tag.
        classifier: with the best weights.
        test: its evaluation on the test set.
        test_images: normalized, [n, channels, height, width].
        pictures: whether they are wanted.
    """
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams(_hyperparameters(config), dict(metrics), step=step)
        else:
            logger.log_metrics(dict(metrics), step=step)
    if pictures:
        for writer in _writers(loggers):
            _add_pictures(writer, classifier, test, test_images, step)


def _add_pictures(
    writer: Any, classifier: Classifier, test: Evaluation | None, test_images: torch.Tensor, step: int
) -> None:
    names = classifier.spec.class_names
    first = next((p.detach().cpu() for p in classifier.network.parameters() if p.dim() > 1), torch.empty(0))
    images = weight_images(first, classifier.spec.shape)
    if images is not None:
        writer.add_image("first layer weights", torchvision.utils.make_grid(images, nrow=10), step)
    if test is not None:
        shown = classifier.spec.to_unit(test_images.cpu())
        writer.add_figure("test/confusion matrix", confusion_figure(test.confusion, names), step)
        writer.add_figure("test/most confident mistakes", mistakes_figure(test, shown, names), step)


def _hyperparameters(config: Mapping[str, Any]) -> dict[str, Any]:
    """What may make a difference to the result, and so is worth a column."""
    data = {name: value for name, value in config["data"].items() if name not in ("root", "download")}
    trainer = {name: config["trainer"][name] for name in ("max_epochs", "precision")}
    groups = {name: config[name] for name in ("model", "optimizer", "schedule", "seed")}
    return {"data": data, "trainer": trainer, **groups}


def _writers(loggers: Sequence[Logger]) -> list[Any]:
    return [logger.experiment for logger in loggers if isinstance(logger, TensorBoardLogger)]
