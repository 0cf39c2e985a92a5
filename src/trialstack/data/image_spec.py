"""What a network's input is: made when the data is read, kept in checkpoints, used on every image
from then on.

Shapes: n images, [n, channels, height, width].
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class ImageSpec:
    """A dataset's images and classes.

    `mean` and `deviation` are of pixel values scaled to 0..1.
    """

    dataset: str
    class_names: tuple[str, ...]
    shape: tuple[int, int, int]
    mean: float
    deviation: float

    def normalize(self, images_uint8: Tensor) -> Tensor:
        """Return uint8 images [n, channels, height, width] as normalized float32 of the same
        shape.
        """
        images = images_uint8.to(torch.float32).div_(255)
        return (
            images
            if (self.mean, self.deviation) == (0, 1)
            else images.sub_(self.mean).div_(self.deviation)
        )

    def to_unit(self, images: Tensor) -> Tensor:
        """Return normalized images as values in 0..1, for display."""
        return images * self.deviation + self.mean

    def primitives(self) -> dict[str, Any]:
        return {**asdict(self), "class_names": list(self.class_names), "shape": list(self.shape)}

    @classmethod
    def from_primitives(cls, values: dict[str, Any]) -> "ImageSpec":
        return cls(
            **{
                **values,
                "class_names": tuple(values["class_names"]),
                "shape": tuple(values["shape"]),
            }
        )
