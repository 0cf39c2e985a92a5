"""What `export.py` writes: the checkpoint's probabilities from raw images, or nothing."""

import copy
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from tests.conftest import Ended
from trialstack.cli.request import check_export
from trialstack.core import layout
from trialstack.core.errors import UserError
from trialstack.engine.eager import Classifier
from trialstack.run import restore
from trialstack.run.export import EXACT, compare, export

pytest.importorskip("onnxruntime")
pytest.importorskip("safetensors")

Command = Callable[..., Ended]
FORMATS = list(layout.EXPORTED)


@pytest.fixture
def run(trained_run: Callable[..., Path]) -> Path:
    return trained_run(
        "model.hidden=[8]",
        "model.dropout=0.5",
        "data.normalize=standard",
        "trainer.max_epochs=1",
        "logger=none",
    )


@pytest.fixture
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the run in a format, exported once."""

    def file(format_name: str) -> Path:
        kept = tmp_path_factory.getbasetemp() / f"exported to {format_name}"
        if not kept.exists():
            export(run, format_name, kept, None)
        return kept

    return file


def loaded(format_name: str, file: Path) -> Callable[[Tensor], Tensor]:
    module = sys.modules[f"trialstack.run.export_formats.{format_name}"]
    load: Callable[[Path], Callable[[Tensor], Tensor]] = module.load
    return load(file)


def expected(classifier: Classifier, images_uint8: Tensor) -> Tensor:
    with torch.no_grad():
        probabilities: Tensor = classifier(classifier.spec.normalize(images_uint8)).softmax(1)
    return probabilities


@pytest.mark.parametrize("format_name", FORMATS)
def test_any_number_of_raw_images_get_the_checkpoints_probabilities(
    format_name: str, run: Path, exported: Callable[[str], Path]
) -> None:
    classify = loaded(format_name, exported(format_name))
    classifier = restore.best_classifier(run)
    for n in (1, 2, 7):
        images = torch.randint(256, (n, 1, 28, 28), dtype=torch.uint8)
        torch.testing.assert_close(
            classify(images), expected(classifier, images), rtol=0, atol=1e-6
        )


def onnx_metadata(file: Path) -> dict[str, str]:
    import onnxruntime

    metadata: dict[str, str] = (
        onnxruntime.InferenceSession(file).get_modelmeta().custom_metadata_map
    )
    return metadata


def torch_metadata(file: Path) -> dict[str, str]:
    files: dict[str, Any] = {"class_names": ""}  # an empty one stays empty
    torch.export.load(io.BytesIO(file.read_bytes()), extra_files=files)
    return files


def safetensors_metadata(file: Path) -> dict[str, str]:
    import safetensors

    with safetensors.safe_open(file, "pt") as opened:
        metadata: dict[str, str] = opened.metadata()
    return metadata


@pytest.mark.parametrize(
    ("format_name", "metadata"),
    [
        ("onnx", onnx_metadata),
        ("torch", torch_metadata),
        ("safetensors", safetensors_metadata),
    ],
)
def test_classes_normalization_and_model_are_in_the_file(
    format_name: str,
    metadata: Callable[[Path], dict[str, str]],
    exported: Callable[[str], Path],
) -> None:
    texts = metadata(exported(format_name))
    values = {key: json.loads(text) for key, text in texts.items()}
    assert values["class_names"] == list("0123456789")
    assert values["shape"] == [1, 28, 28]
    assert 0 < values["mean"][0] < values["deviation"][0] < 1
    assert values["model"]["hidden"] == [8]


def test_a_network_of_any_layers_is_exported(run: Path, tmp_path: Path) -> None:
    from trialstack.run.export_formats import onnx

    classifier = restore.best_classifier(run)
    classifier.network = nn.Sequential(
        nn.Conv2d(1, 4, 5, stride=2), nn.BatchNorm2d(4), nn.GELU(), nn.Flatten(), nn.LazyLinear(10)
    )
    images = torch.randint(256, (5, 1, 28, 28), dtype=torch.uint8)
    classifier(classifier.spec.normalize(images))  # in training: moves the means
    file = tmp_path / "model.onnx"
    file.write_bytes(onnx.encode(classifier.eval(), {}))
    torch.testing.assert_close(
        onnx.load(file)(images), expected(classifier, images), rtol=0, atol=1e-6
    )


class Branching(nn.Module):
    """Not to be traced: what it computes depends on values."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, :10] * (2 if images.sum() > 0 else 1)


@pytest.mark.parametrize("format_name", ["onnx", "torch"])
def test_a_network_without_a_graph_is_one_line(
    format_name: str, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier = restore.best_classifier(run)
    classifier.network = Branching()
    monkeypatch.setattr(restore, "best_classifier", lambda folder: classifier)
    with pytest.raises(UserError, match="cannot be exported as a graph") as caught:
        export(run, format_name, run / "model", None)
    assert len(str(caught.value)) < 400
    assert str(caught.value).endswith("format=safetensors exports its weights")


def test_a_file_with_other_probabilities_does_not_replace_an_earlier_one(
    run: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trialstack.run.export_formats import safetensors

    encode = safetensors.encode

    def other_weights(classifier: Classifier, metadata: dict[str, str]) -> bytes:
        other = restore.best_classifier(run)
        next(other.parameters()).data += 1e-3
        return encode(other, metadata)

    monkeypatch.setattr(safetensors, "encode", other_weights)
    Path("a.safetensors").write_text("earlier")
    ended = command("export.py", f"run={run}", "format=safetensors", "output=a.safetensors")
    assert (ended.code, len(ended.err.splitlines())) == (1, 1), ended.err
    assert ended.err.startswith("a.safetensors is not written: its probabilities differ")
    assert Path("a.safetensors").read_text() == "earlier"
    assert not list(Path().glob(".a*"))


def test_what_float32_itself_changes_may_differ_and_no_more(run: Path) -> None:
    classifier = restore.best_classifier(run)
    *_, bias = classifier.parameters()
    bias.data += 1e4  # leaves three of the logits' decimals in float32
    exact = copy.deepcopy(classifier).double()
    images = torch.randint(256, (50, 1, 28, 28), dtype=torch.uint8)

    def probabilities(images_uint8: Tensor) -> Tensor:
        normalized = classifier.spec.normalize(images_uint8).double()
        return exact(normalized).softmax(1)  # type: ignore[no-any-return]

    rounded = compare(classifier, probabilities, images)
    assert EXACT < rounded.difference < rounded.bound
    other = compare(classifier, lambda i: probabilities(i) + 7 * rounded.difference, images)
    assert other.difference > other.bound


def test_a_missing_package_is_one_line_that_says_what_to_install(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "trialstack.run.export_formats.safetensors", raising=False)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(UserError, match=r"needs safetensors; pip install 'trialstack\[export\]'"):
        export(run, "safetensors", run / "model", None)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"format": "keras"}, "format must be one of onnx, torch, safetensors, got 'keras'"),
        ({"output": "a.pt2"}, "output must be a file that ends in .onnx, got 'a.pt2'"),
        ({"output": "nowhere/a.onnx"}, "there is no folder nowhere; try output=model.onnx"),
        ({"accelerator": "gpu"}, "nothing reads accelerator, got 'gpu'"),
    ],
)
def test_what_cannot_be_exported_is_said_before_torch_is_loaded(
    asked: dict[str, str], message: str
) -> None:
    values = {"run": "a", "format": "onnx", "output": None, "data": {"root": None}}
    with pytest.raises(UserError, match=message.replace("[", r"\[")):
        check_export(OmegaConf.create({**values, **asked}))
