"""What TensorBoard shows of a run besides its curves."""

import logging
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torchvision
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import summary_v2 as hp  # `api` needs TensorFlow
from tensorboard.plugins.hparams.api_pb2 import Status
from tensorboard.plugins.hparams.metadata import (
    NULL_TENSOR,
    SESSION_END_INFO_TAG,
    create_summary_metadata,
)
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo

from trialstack.core.identity import content, shown
from trialstack.engine.eager import Classifier
from trialstack.run.evaluation import Evaluation
from trialstack.run.figures import confusion_figure, mistakes_figure, weight_images

log = logging.getLogger(__name__)


def log_setup(
    loggers: Sequence[Logger],
    classifier: Classifier | None,
    config: Mapping[str, Any],
    config_yaml: str,
) -> None:
    """Write the hyperparameters, the config as text and, of `classifier`, the model's graph.

    Hyperparameters have the names that they have on the command line and on leaderboards. A summary
    that lists an experiment's names is left out: TensorBoard would take one run's for all, and
    blank what others have beside it.
    """
    hyperparameters = {key: _plain(value) for key, value in content(config).items()}
    for logger in loggers:
        logger.log_hyperparams(hyperparameters)
    for writer in _writers(loggers):
        # known by its folder
        writer._get_file_writer().add_summary(hp.hparams_pb(hyperparameters, trial_id=""))
        writer.add_text("config", f"```yaml\n{config_yaml}\n```")
        example = None if classifier is None else classifier.example_input_array
        if classifier is None or example is None:
            continue
        try:
            with warnings.catch_warnings():
                # torch.jit.trace is deprecated, and still how TensorBoard gets graphs
                warnings.simplefilter("ignore")
                writer.add_graph(classifier.network, example)
        except Exception as error:  # a network that cannot be traced trains all the same
            log.warning("TensorBoard gets no graph of this model: %s", str(error).splitlines()[0])


def conclude(
    loggers: Sequence[Logger], step: int, tested: Mapping[str, float], completed: bool
) -> None:
    """Write the metrics of the test set, and how the run ended.

    Args:
        loggers: the run's.
        step: optimizer steps of the run.
        tested: `test/loss` and `test/acc`, or none.
        completed: whether it did not diverge.
    """
    for logger in loggers:
        if tested:
            logger.log_metrics(dict(tested), step=step)
    for writer in _writers(loggers):
        writer._get_file_writer().add_summary(
            _end(Status.STATUS_SUCCESS if completed else Status.STATUS_FAILURE)
        )


def _end(status: int) -> Summary:
    info = HParamsPluginData(
        session_end_info=SessionEndInfo(status=status, end_time_secs=time.time())
    )
    described = create_summary_metadata(info)
    return Summary(
        value=[Summary.Value(tag=SESSION_END_INFO_TAG, metadata=described, tensor=NULL_TENSOR)]
    )


def add_pictures(
    loggers: Sequence[Logger],
    classifier: Classifier,
    test: Evaluation | None,
    test_images: torch.Tensor,
    step: int,
) -> None:
    """Add pictures of first-layer weights and of the test, under a name that TensorBoard sorts
    behind the metrics.

    Args:
        loggers: the run's.
        classifier: with the best weights.
        test: its evaluation on the test set.
        test_images: normalized, [n, channels, height, width].
        step: optimizer steps of the run.
    """
    names = classifier.spec.class_names
    first = next(
        (p.detach().cpu() for p in classifier.network.parameters() if p.dim() > 1), torch.empty(0)
    )
    images = weight_images(first, classifier.spec.shape)
    for writer in _writers(loggers):
        if images is not None:
            writer.add_image(
                "visuals/first layer weights", torchvision.utils.make_grid(images, nrow=10), step
            )
        if test is not None:
            to_show = classifier.spec.to_unit(test_images.cpu())
            writer.add_figure(
                "visuals/confusion matrix", confusion_figure(test.confusion, names), step
            )
            writer.add_figure(
                "visuals/most confident mistakes", mistakes_figure(test, to_show, names), step
            )


def _plain(item: Any) -> Any:
    return item if isinstance(item, (bool, int, float)) else shown(item)


def _writers(loggers: Sequence[Logger]) -> list[Any]:
    return [logger.experiment for logger in loggers if isinstance(logger, TensorBoardLogger)]
