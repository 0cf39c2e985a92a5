"""Pictures of a run, as matplotlib figures.

Shapes: n samples, C classes; images are [n, channels, height, width] with values in 0..1.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from trialstack.core.atomic_files import replaced
from trialstack.run.evaluation import Evaluation
from trialstack.run.metrics_csv import EpochRow, metrics

_PARTS = {"train": "training", "val": "validation"}
_METRICS = {"loss": "Loss", "acc": "Accuracy"}
"""How pictures call what has a short name in files."""


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG."""
    with replaced(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def history_figure(rows: Sequence[EpochRow], best_epoch: int | None, title: str) -> Figure:
    """Plot each metric of training and validation against epochs, the best one marked."""
    names = metrics(rows)
    measured = list(dict.fromkeys(name.rpartition("/")[2] for name in names))
    figure = Figure(figsize=(5 * len(measured), 4), layout="constrained")
    figure.suptitle(title)
    for axes, metric in zip(
        figure.subplots(1, len(measured), squeeze=False)[0], measured, strict=True
    ):
        for name in names:
            part, _, of = name.rpartition("/")
            if of != metric:
                continue
            points = [(row["epoch"], row[name]) for row in rows if name in row]
            axes.plot(
                *zip(*points, strict=True),
                "--" if part == "train" else "-",
                label=_PARTS.get(part, part),
                marker="." if len(points) < 10 else "",
            )
        if best_epoch is not None:
            axes.axvline(
                best_epoch, color="grey", linewidth=0.8, label=f"best epoch ({best_epoch})"
            )
        axes.set(xlabel="Epoch", ylabel=_METRICS.get(metric, metric))
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


def confusion_figure(confusion: Tensor, class_names: Sequence[str]) -> Figure:
    """Draw a confusion matrix [C, C]: counts as numbers, the part of the true class as colour."""
    classes = len(class_names)
    figure = Figure(figsize=(2 + 0.6 * classes, 1.5 + 0.55 * classes), layout="constrained")
    axes = figure.subplots()
    parts = confusion / confusion.sum(1, keepdim=True).clamp(min=1)
    picture = axes.imshow(parts.numpy(), cmap="Blues", vmin=0, vmax=1)
    for true in range(classes):
        for predicted in range(classes):
            count = int(confusion[true, predicted])
            colour = "white" if parts[true, predicted] > 0.5 else "black"
            if count:
                axes.text(
                    predicted, true, str(count), ha="center", va="center", color=colour, fontsize=8
                )
    axes.set_xticks(range(classes), class_names, rotation=45, ha="right")
    axes.set_yticks(range(classes), class_names)
    axes.set(xlabel="Predicted", ylabel="True")
    figure.colorbar(picture, label="Part of the true class")
    return figure


def mistakes_figure(
    evaluation: Evaluation, images: Tensor, class_names: Sequence[str], most: int = 20
) -> Figure:
    """Show the wrong predictions with the highest probabilities, most confident first."""
    confidence, predicted = evaluation.probabilities.max(1)
    wrong = (predicted != evaluation.labels).nonzero()[:, 0]
    worst = wrong[confidence[wrong].argsort(descending=True, stable=True)][:most].tolist()
    rows = max(1, -(-len(worst) // 5))
    figure = Figure(figsize=(10, 2.4 * rows), layout="constrained")
    grid = figure.subplots(rows, 5, squeeze=False).ravel()
    for axes in grid:
        axes.axis("off")
    for axes, sample in zip(grid, worst, strict=False):
        true, guess = (
            class_names[int(evaluation.labels[sample])],
            class_names[int(predicted[sample])],
        )
        axes.imshow(images[sample].permute(1, 2, 0).clamp(0, 1).numpy(), cmap="gray")
        axes.set_title(f"#{sample}: {true}\npredicted {guess} {confidence[sample]:.1%}", fontsize=8)
    return figure


def weight_images(weights: Tensor, image_shape: Sequence[int], most: int = 100) -> Tensor | None:
    """Return the first layer's weights as images in 0..1 [units, channels, height, width], 0 as
    mid-grey.

    Weights that are no images of `image_shape` (or of 1 or 3 channels, for a convolution) give
    None.
    """
    if weights.dim() == 2 and weights.shape[1] == torch.Size(image_shape).numel():
        weights = weights.reshape(-1, *image_shape)
    if weights.dim() != 4 or weights.shape[1] not in (1, 3):
        return None
    weights = weights[:most].float()
    scale = weights.abs().amax(dim=(1, 2, 3), keepdim=True).clamp(min=1e-12)
    return weights / scale / 2 + 0.5
