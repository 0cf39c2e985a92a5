"""Dropout's random numbers: the same on every device, in every stack, and for any length of a
chunk.

Whether a unit is dropped depends on the trial's seed, the epoch, the sample's position in the epoch
and the unit, by the generator SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number
generators, OOPSLA 2014): its n-th number is a hash of n, so that all are had at once, and of a
network that is padded to another width the same.

Shapes: S trials in a stack, K optimizer steps in a chunk, B samples in a minibatch, H hidden units,
W words, each of which decides on `UNITS` units.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from trialstack.core.random_streams import stream
from trialstack.engine.packing import rounded_up

UNITS = 4
"""Units that a random word of 64 bits decides on, 16 bits each: a probability is rounded to a
multiple of 1/65536.
"""

_GOLDEN = 0x9E3779B97F4A7C15
_MIX = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, None))
"""Bits to shift by, and what to multiply by: David Stafford's mix 13."""

_SAMPLE, _LAYER = 24, 56
"""Bits of a word's number from which on it says which sample's and which layer's it is."""


def epoch_key(seed: int, epoch: int) -> int:
    """Return the key of a trial's random words in an epoch."""
    return stream(seed, epoch, 1)


def drop_threshold(probability: float) -> int:
    """Return the 16 bits, as a signed number, from which on a unit is kept."""
    return min(round(probability * 2**16), 2**16 - 1) - 2**15


class Dropout:
    """Draws what is kept of the hidden layers of a stack.

    Args:
        probabilities: of each trial.
        widths: of the hidden layers.
        lead: leading dimensions of their values, S or none.
        kept: what stands for a unit that is kept, in the dtype and on the device of the values.
    """

    def __init__(
        self,
        probabilities: Sequence[float],
        widths: Sequence[int],
        lead: Sequence[int],
        kept: Tensor,
    ) -> None:
        device = kept.device
        self.kept, self.dropped = kept, torch.zeros_like(kept)
        self.widths = [rounded_up(width, UNITS) for width in widths]
        words = [
            _wrapped(_GOLDEN * (layer << _LAYER | word))
            for layer, width in enumerate(self.widths)
            for word in range(width // UNITS)
        ]
        self.words_W = torch.tensor(words, device=device)
        self.keys_S11 = torch.zeros(*lead, 1, 1, dtype=torch.int64, device=device)
        thresholds = [drop_threshold(probability) for probability in probabilities]
        self.thresholds_S11 = torch.tensor(thresholds, dtype=torch.int16, device=device).view(
            *lead, 1, 1
        )

    def begin_epoch(self, seeds: Sequence[int], epoch: int) -> None:
        keys = [epoch_key(seed, epoch) for seed in seeds]
        self.keys_S11.copy_(torch.tensor(keys).view(self.keys_S11.shape))

    def draw(self, first_K: Tensor, batch_size: int) -> list[Tensor]:
        """Return `kept` or 0 of every unit of each hidden layer, [K, S, B, at least H].

        Args:
            first_K: position in the epoch of the first sample of each minibatch.
            batch_size: B.
        """
        device = first_K.device
        samples_KB = first_K[:, None] + torch.arange(batch_size, device=device)
        samples_KB1 = samples_KB.mul_(_wrapped(_GOLDEN << _SAMPLE))[..., None]
        numbers_KSBW = (samples_KB1 + self.words_W).view(
            len(first_K), *[1] * (self.keys_S11.dim() - 2), batch_size, -1
        ) + self.keys_S11
        bits = mixed_(numbers_KSBW).view(torch.int16)
        kept = torch.where(bits >= self.thresholds_S11, self.kept, self.dropped)
        return list(kept.split(self.widths, dim=-1))


def mixed_(words: Tensor) -> Tensor:
    """Hash 64-bit words in their place."""
    shifted = torch.empty_like(words)
    for bits, factor in _MIX:
        torch.bitwise_right_shift(words, bits, out=shifted)
        # without the sign that this shift repeats
        words.bitwise_xor_(shifted.bitwise_and_(2 ** (64 - bits) - 1))
        if factor is not None:
            words.mul_(_wrapped(factor))
    return words


def _wrapped(number: int) -> int:
    """The signed 64-bit number with the same lowest 64 bits."""
    return (number + 2**63) % 2**64 - 2**63
