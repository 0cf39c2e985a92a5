"""A small convolutional network."""

from torch import nn


class CNN(nn.Sequential):
    """From images [B, channel, height, width] to logits [B, C].

    Args:
        image_shape: channels, height and width of the dataset's images.
        num_classes: C.
        channels: of the convolution, by `conf/model/cnn.yaml`.
    """

    def __init__(
        self, image_shape: tuple[int, int, int], num_classes: int, channels: int = 16
    ) -> None:
        depth, *sides = image_shape
        height, width = ((side - 5) // 2 + 1 for side in sides)
        super().__init__(
            nn.Conv2d(depth, channels, 5, stride=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(channels * height * width, num_classes),
        )
