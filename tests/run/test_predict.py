"""What `predict.py` takes, and pictures that never end or explode."""

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Ended
from trialstack.core.errors import UserError
from trialstack.data.image_files import read_image

Command = Callable[..., Ended]
SHAPE = (1, 28, 28)


@pytest.fixture
def run(trained_run: Callable[..., Path]) -> Path:
    return trained_run("model.hidden=[8]", "trainer.max_epochs=1", "logger=none")


def save(file: Path, width: int = 28, height: int = 28) -> None:
    Image.fromarray(np.zeros((height, width), np.uint8)).save(file)


def test_a_single_value_is_a_list_of_one(run: Path, command: Command) -> None:
    save(Path("shoe.png"))
    for one, listed in (
        ("index=0", "index=[0]"),
        ("index=3", "index=[3]"),
        ("images=shoe.png", "images=[shoe.png]"),
    ):
        ended = command("predict.py", f"run={run}", one)
        assert ended.code == 0, ended.err
        assert ended.out == command("predict.py", f"run={run}", listed).out


@pytest.mark.parametrize(
    "value",
    [
        "index=-1",
        "index=[1.5]",
        "index=shoe",
        "images=3",
        "images=[[a]]",
        "index=[]",
        "index=[all]",
    ],
)
def test_what_is_neither_samples_nor_files_is_one_line(
    value: str, run: Path, command: Command
) -> None:
    ended = command("predict.py", f"run={run}", value)
    assert (ended.code, len(ended.err.splitlines())) == (2, 1), ended.err


@pytest.mark.parametrize("output", ["nowhere/x.csv", "taken/x.csv"])
def test_an_output_without_a_folder_is_refused_before_anything_else(
    output: str, run: Path, command: Command
) -> None:
    Path("taken").touch()
    ended = command("predict.py", f"run={run}", "index=0", f"output={output}")
    assert (ended.code, ended.out) == (2, "")
    folder = Path(output).parent
    assert (
        ended.err
        == f"cannot write output={output}: there is no folder {folder}; try output=labels.csv\n"
    )
    assert not Path("nowhere").exists()


def chunk(name: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
    )


def text_that_explodes(file: Path) -> None:
    save(file)
    content = file.read_bytes()
    file.write_bytes(
        content[:33] + chunk(b"zTXt", b"key\0\0" + zlib.compress(bytes(2**24))) + content[33:]
    )


def pixels_that_explode(file: Path) -> None:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 13000, 13000, 16, 0, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes(2**20)))
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b""))


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (os.mkfifo, "is no regular file"),
        (Path.mkdir, "is no regular file"),
        (lambda file: file.symlink_to("/dev/zero"), "is no regular file"),
        (text_that_explodes, "is no image that can be read"),
        (pixels_that_explode, "has 13000 x 13000 pixels, more than 50,000,000: make it smaller"),
        (
            lambda file: file.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(99)),
            "is no image that can be read",
        ),
    ],
)
def test_a_picture_that_never_ends_or_explodes_is_one_line(
    made: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    file = tmp_path / "shoe.png"
    made(file)
    with pytest.raises(UserError, match=message) as caught:
        read_image(file, SHAPE, "auto")
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_light_colour_picture_is_not_inverted(tmp_path: Path) -> None:
    Image.new("RGB", (9, 9), "white").save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png", (3, 32, 32), "auto").min() == 255
    assert read_image(tmp_path / "a.png", (1, 32, 32), "auto").max() == 0


@pytest.mark.parametrize(("width", "height"), [(5000, 1), (1, 5000), (1, 1)])
def test_a_picture_of_a_line_is_read(width: int, height: int, tmp_path: Path) -> None:
    save(tmp_path / "a.png", width, height)
    assert read_image(tmp_path / "a.png", SHAPE, "auto").shape == SHAPE
