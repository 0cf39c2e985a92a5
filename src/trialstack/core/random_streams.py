"""Random streams that belong to a trial: what is drawn depends on its seed and on where it is,
never on its company.
"""

import numpy as np


def stream(seed: int, *where: int) -> int:
    """Return a 63-bit seed for a torch generator, from a trial's seed and numbers such as epoch and
    minibatch.

    Different arguments give independent streams (numpy's SeedSequence).
    """
    return int(np.random.SeedSequence(seed, spawn_key=where).generate_state(1, np.uint64)[0] >> 1)
