"""What a network's input is: made when the data is read, kept in checkpoints, used on every image
from then on.

Shapes: n images, [n, channels, height, width].
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

UNIT = (0.0, 1.0)
"""Mean and deviation that leave a channel in 0..1."""


@dataclass(frozen=True)
class ImageSpec:
    """A dataset's images and classes.

    `mean` and `deviation` are of each channel's pixel values, scaled to 0..1.
    """

    dataset: str
    class_names: tuple[str, ...]
    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def normalize(self, images_uint8: Tensor) -> Tensor:
        """Return uint8 images [n, channels, height, width] as normalized float32 of the same
        shape.
        """
        images = images_uint8.to(torch.float32).div_(255)
        if set(zip(self.mean, self.deviation, strict=True)) == {UNIT}:
            return images
        return images.sub_(_by_channel(self.mean, images)).div_(_by_channel(self.deviation, images))

    def to_unit(self, images: Tensor) -> Tensor:
        """Return normalized images as values in 0..1, for display."""
        return images * _by_channel(self.deviation, images) + _by_channel(self.mean, images)

    def primitives(self) -> dict[str, Any]:
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_primitives(cls, values: dict[str, Any]) -> "ImageSpec":
        parts: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in values.items()
        }
        return cls(**parts)


def _by_channel(values: Sequence[float], images: Tensor) -> Tensor:
    return images.new_tensor(values)[:, None, None]
