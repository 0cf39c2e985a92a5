"""What commands print, as text: configs, model summaries, results."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch.utilities.model_summary.model_summary import ModelSummary
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor

from trialstack.core.objective import rounded
from trialstack.engine.eager import Classifier
from trialstack.run.evaluation import Evaluation
from trialstack.run.metrics_csv import EpochRow, metrics

WIDTH = 100

ACROSS = 7
"""Columns of a table of results at most: with more metrics they are its rows."""

MATRIX = 12
"""Classes whose confusion matrix fits into that."""


def table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    title: str | None = None,
    footer: str = "",
) -> str:
    """Return a table as text: the first column to the left, the others to the right, the footer
    below.
    """
    drawn = Table(
        title=title, title_justify="left", title_style="", box=box.SIMPLE_HEAD, pad_edge=False
    )
    for number, name in enumerate(columns):
        drawn.add_column(name, justify="right" if number else "left")
    for row in rows:
        drawn.add_row(*row)
    console = Console(width=WIDTH, no_color=True, force_jupyter=False)
    with console.capture() as capture:
        console.print(drawn)
    lines = [line.rstrip() for line in capture.get().splitlines()]
    return "\n".join(line for line in [*lines, footer] if line)


def paragraph(title: str, parts: Sequence[str]) -> str:
    """Return a title and what follows it, in lines of 80 columns that break between the parts."""
    whole = [part.replace(" ", "\xa0") for part in (title, *parts)]
    lines = textwrap.fill(
        " ".join(whole), 80, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )
    return lines.replace("\xa0", " ")


def model_summary(classifier: Classifier) -> str:
    """Return layers, output shapes (B is the minibatch) and parameters of a classifier's `network`,
    as Keras does.
    """
    summary = ModelSummary(classifier, max_depth=-1)
    leaves = {
        name for name, module in classifier.network.named_modules() if not list(module.children())
    }
    rows = []
    columns = (summary.layer_names, summary.layer_types, summary.out_sizes, summary.param_nums)
    for name, kind, shape, parameters in zip(*columns, strict=True):
        prefix, _, layer = name.partition(".")
        if prefix == "network" and layer in leaves:
            rows.append([f"{layer} ({kind})" if layer else kind, _shape(shape), f"{parameters:,}"])
    footer = (
        f"Parameters: {summary.total_parameters:,}, trainable: {summary.trainable_parameters:,}"
    )
    return table(["Layer", "Output shape", "Parameters"], rows, "Model", footer)


def _shape(size: Any) -> str:
    return f"[B, {', '.join(map(str, size[1:]))}]" if isinstance(size, list) else str(size)


def results_table(
    rows: Sequence[EpochRow], best_epoch: int | None, tested: Mapping[str, float]
) -> str:
    """Return the metrics of the last and the best epoch, and of the best on the test set."""
    names = metrics(rows)
    shown = {f"last epoch ({rows[-1]['epoch']:.0f})": rows[-1]} if rows else {}
    if best_epoch is not None:
        shown[f"best epoch ({best_epoch})"] = next(
            row for row in rows if row["epoch"] == best_epoch
        )
    body = [
        [label, *(rounded(row[name]) if name in row else "" for name in names), *[""] * len(tested)]
        for label, row in shown.items()
    ]
    if tested and body:
        body[-1][-len(tested) :] = map(rounded, tested.values())
    header = ["Results", *names, *tested]
    if len(header) > ACROSS:
        header, *body = map(list, zip(header, *body, strict=True))
    return table(header, body)


def evaluation_tables(evaluation: Evaluation, class_names: Sequence[str]) -> str:
    """Return precision and recall per class, and the confusion matrix, or of many classes what is
    confused most.
    """
    support = evaluation.confusion.sum(1)
    numbers = zip(class_names, evaluation.precision, evaluation.recall, support, strict=True)
    rows = [[name, f"{p:.4f}", f"{r:.4f}", str(int(n))] for name, p, r, n in numbers]
    overall = (
        f"loss {evaluation.loss:.4f}, accuracy {evaluation.accuracy:.4f}, "
        + "".join(f"{name} {value:.4f}, " for name, value in evaluation.measured.items())
        + f"{len(evaluation.labels):,} samples"
    )
    classes = table(["Class", "Precision", "Recall", "Samples"], rows, footer=overall)
    confusions = _confusion_matrix if len(class_names) <= MATRIX else _confused_most
    return f"{classes}\n\n{confusions(evaluation.confusion, class_names)}"


def _confusion_matrix(confusion: Tensor, class_names: Sequence[str]) -> str:
    rows = [
        [f"{label} {name}", *(str(int(count)) if count else "." for count in counts)]
        for label, (name, counts) in enumerate(zip(class_names, confusion, strict=True))
    ]
    labels = [str(label) for label in range(len(class_names))]
    return table(["True / predicted", *labels], rows, "Confusion matrix")


def _confused_most(confusion: Tensor, class_names: Sequence[str], most: int = 10) -> str:
    wrong = confusion.clone().fill_diagonal_(0)
    counts, places = wrong.flatten().sort(descending=True, stable=True)
    rows = [
        [class_names[place // len(class_names)], class_names[place % len(class_names)], str(count)]
        for count, place in zip(counts[:most].tolist(), places.tolist(), strict=False)
        if count
    ]
    return table(["True", "Predicted", "Samples"], rows, "Most frequent confusions")
