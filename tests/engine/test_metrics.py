"""Metrics of a config, against scikit-learn's, in both engines."""

from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.metrics import f1_score

from tests.conftest import composed
from tests.engine.test_stacked import DOUBLE, stack_of
from tests.run.test_runs import metrics
from trialstack.core.errors import UserError
from trialstack.data.datamodule import Digits
from trialstack.engine.metrics import Metrics
from trialstack.run.evaluation import evaluate
from trialstack.run.restore import best_classifier
from trialstack.run.result import Result
from trialstack.run.train import train

OF = "torchmetrics.classification."
F1 = {"_target_": f"{OF}MulticlassF1Score", "average": "macro"}


def test_metrics_are_of_all_minibatches_together() -> None:
    logits, labels = torch.randn(50, 4), torch.randint(4, (50,))
    outputs = list(zip(logits.split(16), labels.split(16), strict=True))
    expected = f1_score(labels, logits.argmax(1), average="macro")
    made = Metrics({"f1": F1}, 4)
    for _ in range(2):  # they start anew
        assert made.measure(outputs)["f1"] == pytest.approx(expected, rel=1e-6)  # float32


@pytest.mark.parametrize(
    ("name", "config", "said"),
    [
        ("f1", {**F1, "average": "none"}, r"metrics\.f1 must give one number, got \[4\]"),
        ("f1_error", F1, "higher is better of it, .*; try f1 as its name"),
        ("calibration", {"_target_": f"{OF}MulticlassCalibrationError"}, "try calibration_error"),
        ("f1", {"_target_": f"{OF}BinaryF1Score"}, "metrics.f1 does not take probabilities"),
        ("f1", {"_target_": "torch.nn.Linear"}, "a subclass of torchmetrics"),
    ],
)
def test_what_is_no_metric_is_said(name: str, config: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Metrics({name: config}, 4).check(4)


OBJECTIVE = ("metrics=f1", "objective=val/f1")


def test_both_engines_measure_every_trial_and_choose_by_it(tmp_path: Path) -> None:
    common = [override for override in DOUBLE if override != "test=false"]
    train([composed(tmp_path / "eager", *common, *OBJECTIVE, "engine=eager", "seed=2")])
    train(stack_of(tmp_path, [["seed=1"], ["seed=2"]], *common, *OBJECTIVE))
    data = Digits(val_size=300)
    data.setup()
    rows = {name: metrics(tmp_path / name) for name in ("eager", "1")}
    scores = {name: [float(row["val/f1"]) for row in of] for name, of in rows.items()}
    assert scores["1"] == pytest.approx(scores["eager"], rel=1e-6)
    for name, of_run in scores.items():
        result = Result.read(tmp_path / name)
        assert result is not None
        assert result.objective == max(of_run)
        classifier = best_classifier(tmp_path / name)
        samples = data.test_samples
        predicted = classifier(samples.images).argmax(1)
        expected = f1_score(samples.labels, predicted, average="macro")
        assert result.metrics["test/f1"] == pytest.approx(expected, rel=1e-6)
        assert evaluate(classifier, samples).metrics == {
            key: value for key, value in result.metrics.items() if key.startswith("test/")
        }
