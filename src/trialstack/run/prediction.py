"""What a trained classifier says of images."""

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from trialstack.core.atomic_files import replaced
from trialstack.core.errors import UserError
from trialstack.engine.eager import Classifier
from trialstack.engine.shortest import shortest
from trialstack.run.evaluation import predict_logits


@dataclass(frozen=True)
class Prediction:
    """The most probable class of one image.

    Attributes:
        image: number in the test set, or file.
        label: number of the class.
        class_name: its name.
        probability: that the classifier gives it.
    """

    image: str
    label: int
    class_name: str
    probability: float


def predict(classifier: Classifier, names: Sequence[str], images: Tensor) -> list[Prediction]:
    """Classify normalized images [n, channels, height, width], named `names`."""
    probabilities, labels = predict_logits(classifier, images).float().softmax(1).cpu().max(1)
    class_names = classifier.spec.class_names
    return [
        Prediction(name, int(label), class_names[int(label)], shortest(probability))
        for name, label, probability in zip(names, labels, probabilities, strict=True)
    ]


def summary_line(predictions: Sequence[Prediction]) -> str:
    """Return labels and class names as numpy prints them: `[9 2 1] ['Ankle boot' 'Pullover'
    'Trouser']`.
    """
    with np.printoptions(threshold=len(predictions) + 1, linewidth=10**6):
        return (
            f"{np.array([p.label for p in predictions])} "
            f"{np.array([p.class_name for p in predictions])}"
        )


def write(predictions: Sequence[Prediction], file: Path) -> None:
    """Write predictions as CSV or JSON, by the file's ending.

    Raises:
        UserError: the file cannot be written.
    """
    rows = [asdict(prediction) for prediction in predictions]
    try:
        with (
            replaced(file) as temporary,
            temporary.open("w", newline="", encoding="utf-8") as stream,
        ):
            if file.suffix == ".json":
                json.dump(rows, stream, indent=2)
                return
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    except OSError as error:
        raise UserError(
            f"cannot write output={file}: {error.strerror}; choose another file"
        ) from error
