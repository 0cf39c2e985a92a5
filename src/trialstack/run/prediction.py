"""What a trained classifier says of images."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from trialstack.core.atomic_files import replaced
from trialstack.core.errors import UserError
from trialstack.engine.eager import Classifier
from trialstack.engine.shortest import shortest
from trialstack.run.evaluation import predict_logits
from trialstack.run.tables import table

SHOWN = 100
"""Images that the terminal shows; of more, the first and the last `EDGE`."""

EDGE = 5


@dataclass(frozen=True)
class Prediction:
    """What a classifier says of one image.

    Attributes:
        image: number in the test set, or file.
        label: number of the most probable class.
        class_name: its name.
        probability: that the classifier gives it.
        probabilities: that it gives each class, by name.
        true_label: number of the class that the image is of; None where it is not known.
        true_class: its name.
    """

    image: str
    label: int
    class_name: str
    probability: float
    probabilities: Mapping[str, float]
    true_label: int | None = None
    true_class: str | None = None

    def primitives(self) -> dict[str, Any]:
        """Return what goes into JSON: the true class where it is known."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def cells(self) -> dict[str, Any]:
        """Return what goes into a row of CSV, by column: the same, a column a class."""
        values = self.primitives()
        by_class = values.pop("probabilities")
        return values | {f"probability/{name}": value for name, value in by_class.items()}


def sample_numbers(index: list[Any], samples: int) -> list[int]:
    """Return the numbers in `index`, or if it is `["all"]`, those of all samples of the test set.

    Raises:
        UserError: there are fewer.
    """
    if index == ["all"]:
        return list(range(samples))
    if max(index) >= samples:
        raise UserError(f"index < {samples} must hold (the test set), got {max(index)}")
    return index


def predict(
    classifier: Classifier,
    names: Sequence[str],
    images: Tensor,
    true_labels: Sequence[int] | None = None,
) -> list[Prediction]:
    """Classify normalized images [n, channels, height, width], named `names`, of which the classes
    may be known.
    """
    probabilities = predict_logits(classifier, images).float().softmax(1).cpu()
    class_names = classifier.spec.class_names
    predictions = []
    for number, (name, row) in enumerate(zip(names, probabilities, strict=True)):
        by_class = [shortest(probability) for probability in row]
        label = int(row.argmax())
        true = None if true_labels is None else int(true_labels[number])
        predictions.append(
            Prediction(
                name,
                label,
                class_names[label],
                by_class[label],
                dict(zip(class_names, by_class, strict=True)),
                true,
                None if true is None else class_names[true],
            )
        )
    return predictions


def predictions_table(predictions: Sequence[Prediction]) -> str:
    """Return the most probable classes as a table, beside the true ones where those are known."""
    columns = ["Image", "Label", "Class", "Probability"]
    known = predictions[0].true_label is not None
    rows = [
        [p.image, str(p.label), p.class_name, f"{p.probability:.4f}"]
        + ([str(p.true_label), str(p.true_class)] if known else [])
        for p in predictions
    ]
    columns += ["True label", "True class"] if known else []
    if len(rows) <= SHOWN:
        return table(columns, rows)
    shown = [*rows[:EDGE], ["..."] * len(columns), *rows[-EDGE:]]
    return table(columns, shown, footer=f"{len(rows):,} images")


def summary_line(predictions: Sequence[Prediction]) -> str:
    """Return labels and class names as numpy prints them: `[9 2 1] ['Ankle boot' 'Pullover'
    'Trouser']`.
    """
    with np.printoptions(threshold=SHOWN, edgeitems=EDGE, linewidth=10**6):
        return (
            f"{np.array([p.label for p in predictions])} "
            f"{np.array([p.class_name for p in predictions])}"
        )


def write(predictions: Sequence[Prediction], file: Path) -> None:
    """Write predictions as CSV or JSON, by the file's ending.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        with (
            replaced(file) as temporary,
            temporary.open("w", newline="", encoding="utf-8") as stream,
        ):
            if file.suffix == ".json":
                json.dump([p.primitives() for p in predictions], stream, indent=2)
                return
            writer = csv.DictWriter(stream, list(predictions[0].cells()))
            writer.writeheader()
            writer.writerows(p.cells() for p in predictions)
    except OSError as error:
        raise UserError(
            f"cannot write output={file}: {error.strerror}; choose another file"
        ) from error
