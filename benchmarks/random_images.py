"""Random images of the articles' shape and number, where no dataset is there."""

import numpy as np

from trialstack.data.datamodule import Arrays, ImageDataModule


class RandomImages(ImageDataModule):
    """There is nothing to learn from them."""

    dataset = "random images"
    class_names = tuple("0123456789")
    samples = 60_000, 10_000

    def read(self) -> Arrays:
        generator = np.random.default_rng(1)
        arrays: list[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]] = []
        for count in self.samples:
            arrays.append(generator.integers(0, 256, (count, 28, 28), dtype=np.uint8))
            arrays.append(generator.integers(0, 10, count, dtype=np.uint8))
        return Arrays(*arrays)


class FewRandomImages(RandomImages):
    samples = 6_000, 1_000
