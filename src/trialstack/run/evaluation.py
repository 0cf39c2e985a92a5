"""How good a trained classifier is: loss, accuracy, and per class.

Shapes: n samples, C classes.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_confusion_matrix,
    multiclass_precision,
    multiclass_recall,
)

from trialstack.core.sizes import EVALUATION_BATCH
from trialstack.data.minibatches import Samples
from trialstack.engine.eager import Classifier
from trialstack.engine.shortest import shortest


@dataclass(frozen=True)
class Evaluation:
    """Results on one set of samples, all tensors on the CPU.

    Attributes:
        loss: the mean of the classifier's own, cross-entropy in nats.
        accuracy: part of the samples that are classified correctly.
        precision: [C], of the samples predicted as a class, the part that is of it; 0 where none is
            predicted.
        recall: [C], of a class's samples, the part that is predicted as it.
        confusion: [C, C], number of samples by true (row) and predicted (column) class.
        probabilities: [n, C].
        labels: [n].
        measured: other metrics of the classifier, by name.
    """

    loss: float
    accuracy: float
    precision: Tensor
    recall: Tensor
    confusion: Tensor
    probabilities: Tensor
    labels: Tensor
    measured: dict[str, float] = field(default_factory=dict)

    @property
    def metrics(self) -> dict[str, float]:
        """By their names in `result.json`, of the test set."""
        measured = {"loss": self.loss, "acc": self.accuracy} | self.measured
        return {f"test/{name}": value for name, value in measured.items()}

    def primitives(self, class_names: tuple[str, ...]) -> dict[str, Any]:
        """Return what goes into JSON, per class by name."""
        support = self.confusion.sum(1)
        return {
            "loss": self.loss,
            "accuracy": self.accuracy,
            **self.measured,
            "samples": len(self.labels),
            "classes": {
                name: {"precision": shortest(p), "recall": shortest(r), "samples": int(n)}
                for name, p, r, n in zip(
                    class_names, self.precision, self.recall, support, strict=True
                )
            },
            "confusion_matrix": self.confusion.tolist(),
        }


@torch.inference_mode()
def predict_logits(classifier: Classifier, images: Tensor) -> Tensor:
    """Return logits [n, C] of normalized images [n, channels, height, width], on their device."""
    classifier.eval().to(images.device)
    return torch.cat([classifier(minibatch) for minibatch in images.split(EVALUATION_BATCH)])


def evaluate(classifier: Classifier, samples: Samples) -> Evaluation:
    """Measure a classifier on samples that lie on any device."""
    logits, labels = predict_logits(classifier, samples.images).float(), samples.labels
    classes = logits.shape[1]
    return Evaluation(
        loss=shortest(classifier.criterion(logits, labels)),
        accuracy=shortest(multiclass_accuracy(logits, labels, classes, average="micro")),
        precision=multiclass_precision(logits, labels, classes, average="none").cpu(),
        recall=multiclass_recall(logits, labels, classes, average="none").cpu(),
        confusion=multiclass_confusion_matrix(logits, labels, classes).cpu(),
        probabilities=logits.softmax(1).cpu(),
        labels=labels.cpu(),
        measured=classifier.metrics.measure([(logits, labels)]),
    )
