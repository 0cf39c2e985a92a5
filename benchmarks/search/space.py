"""What is searched: settings of SGD for the second article's network, with rungs at epochs 1, 4 and
16.
"""

from typing import NamedTuple

import numpy as np

EPOCHS = 16
RUNGS = (1, 4)
FACTOR = 4
TRIALS = 64
RATE, MOMENTUM, DECAY = (1e-3, 1.0), (0.0, 0.99), (1e-6, 1e-2)


class Candidate(NamedTuple):
    """Learning rate and weight decay from logarithmic intervals, momentum from a linear one."""

    lr: float
    momentum: float
    weight_decay: float


def random_candidates(count: int, seed: int) -> list[Candidate]:
    generator = np.random.default_rng(seed)
    return [
        Candidate(
            float(np.exp(generator.uniform(*np.log(RATE)))),
            float(generator.uniform(*MOMENTUM)),
            float(np.exp(generator.uniform(*np.log(DECAY)))),
        )
        for _ in range(count)
    ]
