"""Image files as the datasets have them: of the network's size, and light on dark where those are
in grey.

Shapes: [channels, height, width].
"""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from trialstack.core.errors import UserError, reason
from trialstack.core.untrusted import Damaged, opened

PIXELS = 50_000_000
"""Of an image, at most: Pillow takes up to 16 bytes of memory for one of them."""


def read_image(path: Path, shape: tuple[int, int, int], invert: bool | str) -> Tensor:
    """Return an image file of any size and mode as uint8 [channels, height, width], in grey light
    on dark as the datasets are.

    Transparency becomes white, 16 bits become 8, and a picture that is not square is padded with
    its border's colour.

    Args:
        path: PNG, JPEG or anything else that Pillow reads.
        shape: channels (1 or 3), height and width.
        invert: true, false, or `auto`: invert what is read in grey where its border is lighter than
            mid-grey.

    Raises:
        UserError: the file is missing, too large, or no image.
    """
    try:
        picture = _opened(path, "RGB" if shape[0] == 3 else "L")
    except FileNotFoundError:
        raise UserError(
            f"image {path} does not exist; images=[...] takes PNG or JPEG files"
        ) from None
    except Damaged as problem:
        raise UserError(
            f"image {path} {problem}; images=[...] takes PNG or JPEG files"
        ) from problem
    except Exception as error:  # Pillow's decoders raise all kinds
        raise UserError(
            f"{path} is no image that can be read ({reason(error)}); images=[...] takes PNG or JPEG"
        ) from error
    border = _border(picture)
    if invert is True or (invert == "auto" and picture.mode == "L" and border > 127.5):
        picture, border = ImageOps.invert(picture), 255 - border
    colour: Any = round(border) if picture.mode == "L" else (round(border),) * 3
    picture = ImageOps.pad(
        picture, (shape[2], shape[1]), method=Image.Resampling.LANCZOS, color=colour
    )
    pixels = torch.from_numpy(np.array(picture, dtype=np.uint8))
    return pixels.reshape(shape[1], shape[2], -1).permute(2, 0, 1).contiguous()


def _opened(path: Path, mode: str) -> Image.Image:
    with opened(path) as file, warnings.catch_warnings():
        # there is a limit of our own
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(file) as picture:
            width, height = picture.size
            if width * height > PIXELS:
                raise Damaged(
                    f"has {width} x {height} pixels, more than {PIXELS:,}: make it smaller"
                )
            return _flattened(ImageOps.exif_transpose(picture), mode)


def _flattened(picture: Image.Image, mode: str) -> Image.Image:
    if picture.mode.startswith("I"):  # 16 bits; Pillow would clip them to 8
        picture = Image.fromarray((np.asarray(picture) // 257).clip(0, 255).astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert(mode)


def _border(picture: Image.Image) -> float:
    """Median brightness of the outermost pixels, 0..255."""
    grey = np.asarray(picture.convert("L"))
    return float(np.median(np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])))
