"""A dataset: noise with stripes in it, horizontal or vertical ones."""

import numpy as np

from trialstack.data import Arrays, ImageDataModule


class Stripes(ImageDataModule):
    """600 images of 28x28 pixels, a third of them for the test."""

    dataset = "Stripes"
    class_names = ("horizontal", "vertical")

    def read(self) -> Arrays:
        labels = np.arange(600, dtype=np.uint8) % 2
        images = np.random.default_rng(0).integers(0, 192, (600, 28, 28), np.uint8)
        images[labels == 0, ::2] += 63
        images[labels == 1, :, ::2] += 63
        return Arrays(images[:400], labels[:400], images[400:], labels[400:])
