"""The stack: networks with equally many layers that train together, many optimizer steps a call,
without autograd.

A fully connected network's gradient is short enough to be written out, which removes most of the
time that small networks take.

Shapes: S trials in a stack, K optimizer steps in a chunk, B samples in a minibatch, D pixels, H
hidden units, C classes, P parameters of a trial, Q numbers of an optimizer's step, n samples.
Tensors of a single trial have no S: plain matrix products are a tenth faster than batches of one.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trialstack.data.minibatches import Samples
from trialstack.engine import execution
from trialstack.engine.activations import ACTIVATIONS
from trialstack.engine.checksums import Checksums
from trialstack.engine.dropout import Dropout
from trialstack.engine.losses import CrossEntropyLoss
from trialstack.engine.models import MLP
from trialstack.engine.packing import ALIGNED, Packing, rounded_up
from trialstack.engine.replay import Replay
from trialstack.engine.stacked_loss import StackedLoss
from trialstack.engine.stacked_optimizer import Number, Numbers, add_scaled, mean_over
from trialstack.engine.stacked_optimizers import build_optimizer
from trialstack.engine.totals import Totals

GATHERED_ROWS = 512
"""Images that are gathered in one call: few enough to stay in a core's L2 cache, enough to be worth
the call.
"""

LONG_SUM = 512
"""Terms of a sum from which on a single trial's product is made of two, over half of the terms
each.

At 784x300 on two cores this is a step 5% faster than the undivided product, at 784x128 it is 3%
slower; and where it is divided does not depend on the number of threads, as it does in the
undivided one.
"""


class Layer(NamedTuple):
    """Views of a layer's parameters and of its gradient.

    Attributes:
        matrix: weights and, in the last row, biases, [S, in + 1, out].
        weights: [S, in, out].
        transposed: the weights, [S, out, in].
        bias: [S, 1, out].
        gradient: where it is accumulated, like `matrix`.
    """

    matrix: Tensor
    weights: Tensor
    transposed: Tensor
    bias: Tensor
    gradient: Tensor


class Values(NamedTuple):
    """A hidden layer's values for a minibatch, written anew in every step.

    Attributes:
        before: the activation, [S, B, H].
        after: activation and mask, [S, B, H].
        scaled: `after`, times what makes up for what was dropped where trials differ in that.
        inputs: `scaled` and a column that makes ones when it is multiplied as `scaled` is.
        transposed: `inputs`, [S, H + 1, B].
        gradient: of the values before the activation, [S, B, H].
    """

    before: Tensor
    after: Tensor
    scaled: Tensor
    inputs: Tensor
    transposed: Tensor
    gradient: Tensor


class Stack:
    """S trials: their parameters, their optimizer, and their losses and accuracies.

    Args:
        networks: with the initial weights; of equally many layers and of the same activation.
        seeds: of each trial's dropout.
        optimizers: the `optimizer` group of each trial.
        losses: of each trial.
        samples: for training; everything else lies on their device.
        dtype: of weights and products.
    """

    def __init__(
        self,
        networks: Sequence[MLP],
        seeds: Sequence[int],
        optimizers: Sequence[Mapping[str, Any]],
        losses: Sequence[CrossEntropyLoss],
        samples: Samples,
        dtype: torch.dtype,
    ) -> None:
        self.size = len(networks)
        self.seeds = seeds
        self.images_nD, self.labels_n = samples.images.flatten(1), samples.labels
        device = self.labels_n.device
        self.execution = execution.on(device)
        self.packing = Packing([network.widths for network in networks])
        self.widths, self.lead = self.packing.widths, self.packing.lead
        self.parameters = self.packing.zeros(device, dtype)
        for index, network in enumerate(networks):
            values = [parameter.detach() for parameter in network.parameters()]
            self.packing.write(self.parameters, index, values)
        self.best: Tensor | None = None
        self.optimizer = build_optimizer(optimizers, self.parameters)
        self.layers = [
            Layer(
                matrix, matrix[..., :-1, :], matrix[..., :-1, :].mT, matrix[..., -1:, :], gradient
            )
            for matrix, gradient in zip(
                self.packing.matrices(self.parameters),
                self.packing.matrices(self.optimizer.accumulator),
                strict=True,
            )
        ]
        self.activation = ACTIVATIONS[networks[0].activation](self.parameters.new_zeros(()))
        self._set_dropout([network.dropout for network in networks])
        self.table_QKS = self.first_K = torch.empty(0)
        self.loss = StackedLoss(losses, self.widths[-1], self.parameters)
        self.train_totals, self.val_totals = (Totals(self.loss, self.parameters) for _ in range(2))
        single = self.size == 1
        self.halves = single and self.execution.halves
        self.add_product: Callable[..., Tensor] = torch.addmm if single else torch.baddbmm
        self.accumulate: Callable[..., Tensor] = Tensor.addmm_ if single else Tensor.baddbmm_
        captures = self.execution.captures
        self._replay = Replay(None if captures is None else captures())

    def _set_dropout(self, probabilities: Sequence[float]) -> None:
        """What is kept is scaled up in the products that take it, if that is the same for all."""
        self.dropout = None
        self.scale: float = 1.0
        self.scales_S11: Tensor | None = None
        if not any(probabilities) or len(self.widths) == 2:
            return
        kept = self.parameters.new_full((), self.activation.kept)
        self.dropout = Dropout(probabilities, self.widths[1:-1], self.lead, kept)
        scales = [1 / (1 - probability) for probability in probabilities]
        if len(set(scales)) == 1:
            self.scale = scales[0]
        else:
            self.scales_S11 = self.parameters.new_tensor(scales).view(*self.lead, 1, 1)

    def begin_epoch(
        self, rates_KS: NDArray[np.float64], first: int, epoch: int, batch_size: int
    ) -> None:
        """Lay out an epoch's steps.

        Args:
            rates_KS: their learning rates.
            first: number of the first of them in the run, from 0.
            epoch: from 0.
            batch_size: samples in a minibatch; the last one may have fewer.
        """
        table_QKS = self.optimizer.table(rates_KS, first)
        captured = self.execution.captures is not None
        self.table_QKS = table_QKS.to(self.parameters) if captured else table_QKS
        self.first_K = batch_size * torch.arange(len(rates_KS), device=self.labels_n.device)
        if self.dropout is not None:
            self.dropout.begin_epoch(self.seeds, epoch)

    @torch.inference_mode()
    def train_chunk(self, index_nKB: Tensor, start: int) -> None:
        """Make K optimizer steps.

        Args:
            index_nKB: of the samples in each step's minibatch; n is S, or 1 if all trials have the
                same.
            start: number of the first step in the epoch, from 0.
        """
        _, steps, batch_size = index_nKB.shape
        chunk = slice(start, start + steps)
        self._replay(self._steps, index_nKB, self.table_QKS[:, chunk], self.first_K[chunk])
        self.train_totals.samples += steps * batch_size

    @torch.inference_mode()
    def forward(self, images: Tensor) -> Tensor:
        """Return logits [S, B, C] of images [B, D], or of each trial's own [S, B, D]."""
        samples, pixels = images.shape[-2:]
        single = self.size == 1
        values = images.view(samples, pixels) if single else images.expand(self.size, -1, -1)
        *hidden, last = self.layers
        for layer in hidden:
            before = self.add_product(layer.bias, values, layer.weights)
            values = torch.empty_like(before)
            self.activation.forward(before, None, values)
        return self.add_product(last.bias, values, last.weights).view(self.size, samples, -1)

    def validate(self, images: Tensor, labels: Tensor) -> Tensor:
        """Add samples to `val_totals`, and return their logits [S, B, C].

        Args:
            images: [B, D], or each trial's own, [S, B, D].
            labels: [B] or [S, B].
        """
        logits_SBC = self.forward(images)
        self.val_totals.add(logits_SBC.mT, labels.expand(self.size, -1))
        self.val_totals.samples += labels.shape[-1]
        return logits_SBC

    def keep(self, indices: Sequence[int]) -> None:
        """Keep the parameters that these trials have now in `best`, on the device."""
        if self.best is None:
            self.best = torch.zeros_like(self.parameters)
        if self.size == 1:
            self.best.copy_(self.parameters)
        else:
            index = torch.tensor(indices, device=self.best.device)
            self.best.index_copy_(0, index, self.parameters.index_select(0, index))

    def try_steps(self, index_nKB: Tensor, start: int) -> Tensor:
        """Return a checksum of what each operation of `train_chunk` gives, whose changes are
        undone.
        """
        totals = self.train_totals
        changed = [self.parameters, *self.optimizer.state.values(), totals.loss_S, totals.correct_S]
        before, samples = [tensor.clone() for tensor in changed], totals.samples
        with Checksums() as checksums:
            self.train_chunk(index_nKB, start)
        for tensor, value in zip(changed, before, strict=True):
            tensor.copy_(value)
        totals.samples = samples
        return torch.stack(checksums.made)

    def _steps(self, index_nKB: Tensor, table_QKS: Tensor, first_K: Tensor) -> None:
        _, steps, batch_size = index_nKB.shape
        labels_KnB = self.labels_n[index_nKB].transpose(0, 1)
        by_step = (steps, *self.lead, self.widths[-1], batch_size)
        logits = self.parameters.new_empty(by_step)
        table_QKS = mean_over(table_QKS, batch_size)  # as cross-entropy is
        targets_KSCB, factors_KS1B = self.loss.targets(labels_KnB, table_QKS[0].to(self.parameters))
        numbers = self.optimizer.steps(table_QKS)
        factors: Iterable[Number] = (
            (step.scale for step in numbers)
            if factors_KS1B is None
            else factors_KS1B.view(steps, *self.lead, 1, batch_size).unbind()
        )
        values = [self._values(width, batch_size) for width in self.widths[1:-1]]
        for images, targets, factor, masks, outputs, step in zip(
            self._minibatches(index_nKB),
            targets_KSCB.view(by_step).unbind(),
            factors,
            self._masks(first_K, batch_size),
            logits.unbind(),
            numbers,
            strict=True,
        ):
            self._step(images, targets, factor, masks, outputs, values, step)
        self.train_totals.add(
            logits.view(targets_KSCB.shape), labels_KnB.expand(steps, self.size, batch_size)
        )

    def _values(self, width: int, batch_size: int) -> Values:
        shape = (*self.lead, batch_size, width)
        new = self.parameters.new_empty
        with_ones = self.parameters.new_full(
            (*self.lead, batch_size, rounded_up(width + 1, ALIGNED)), 1 / self.scale
        )[..., : width + 1]
        scaled = with_ones[..., :-1]
        after = scaled if self.scales_S11 is None else new(shape)
        return Values(new(shape), after, scaled, with_ones, with_ones.mT, new(shape))

    def _masks(self, first_K: Tensor, batch_size: int) -> Iterator[list[Tensor | None]]:
        """Of each step, the hidden layers' masks, [S, B, H]."""
        hidden = self.widths[1:-1]
        if self.dropout is None:
            nothing: list[Tensor | None] = [None] * len(hidden)
            return iter([nothing] * len(first_K))
        masks_KSBH = self.dropout.draw(first_K, batch_size)
        return (
            [mask[..., :width] for mask, width in zip(masks, hidden, strict=True)]
            for masks in zip(*masks_KSBH, strict=True)
        )

    def _minibatches(self, index_nKB: Tensor) -> Iterator[Tensor]:
        """The images of each step with a column of ones, [S, B, D + 1]."""
        n, steps, batch_size = index_nKB.shape
        pixels = self.widths[0]
        at_once = min(steps, max(1, GATHERED_ROWS // (n * batch_size)))
        shape = (at_once * n * batch_size, rounded_up(pixels + 1, ALIGNED))
        gathered = self.parameters.new_ones(shape)[:, : pixels + 1]
        for index in index_nKB.split(at_once, dim=1):
            rows = index.transpose(0, 1).reshape(-1)
            images = gathered[: len(rows)]
            if self.images_nD.dtype == images.dtype:
                torch.index_select(self.images_nD, 0, rows, out=images[:, :-1])
            else:
                images[:, :-1] = self.images_nD.index_select(0, rows)
            if self.size == 1:
                yield from images.unflatten(0, (-1, batch_size)).unbind()
            else:
                by_step = images.unflatten(0, (-1, n, batch_size))
                yield from by_step.expand(-1, self.size, -1, -1).unbind()

    def _step(
        self,
        images: Tensor,
        targets: Tensor,
        factor: Number,
        masks: Sequence[Tensor | None],
        logits: Tensor,
        values: Sequence[Values],
        step: Numbers,
    ) -> None:
        """One optimizer step on a minibatch.

        Args:
            images: with a column of ones, [S, B, D + 1].
            targets: [S, C, B], negative, scaled as gradients are; softmax is faster over rows of
                samples.
            factor: of softmax, scaled as they are.
            masks: of each hidden layer, [S, B, H]; None without dropout.
            logits: [S, C, B], written.
            values: of each hidden layer, written.
            step: its numbers.
        """
        *hidden, last = self.layers
        inputs, scale = images, 1.0
        for layer, at, mask in zip(hidden, values, masks, strict=True):
            self._linear(layer, inputs, scale, at.before)
            self.activation.forward(at.before, mask, at.after)
            if self.scales_S11 is not None:
                torch.mul(at.after, self.scales_S11, out=at.scaled)
            inputs, scale = at.inputs, self.scale
        self._linear(last, inputs, scale, logits.mT)
        delta = add_scaled(targets, logits.softmax(-2), factor).mT
        deltas = [delta]
        for above, at, mask in zip(self.layers[:0:-1], values[::-1], masks[::-1], strict=True):
            delta = self._backward(above, delta, at.gradient)
            self.activation.backward(delta, at.before, mask, at.after)
            if self.scales_S11 is not None:
                delta.mul_(self.scales_S11)
            deltas.append(delta)
        keep = self.optimizer.begin(step)
        first, *others = self.layers
        self.accumulate(first.gradient, images.mT, deltas.pop(), beta=keep)
        for layer, at, delta in zip(others, values, reversed(deltas), strict=True):
            self.accumulate(layer.gradient, at.transposed, delta, beta=keep, alpha=self.scale)
        self.optimizer.end(step)

    def _linear(self, layer: Layer, inputs: Tensor, scale: float, out: Tensor) -> None:
        """Write `scale * inputs @ matrix`."""
        if not self._is_halved(inputs.shape[-1] - 1):
            self.accumulate(out, inputs, layer.matrix, beta=0.0, alpha=scale)
            return
        product = _in_halves(inputs[..., :-1], layer.weights)
        torch.add(layer.bias, product, alpha=scale, out=out)

    def _backward(self, layer: Layer, delta: Tensor, out: Tensor) -> Tensor:
        """Return `scale * delta @ weights.T`, which may be in `out`."""
        if not self._is_halved(delta.shape[-1]):
            return self.accumulate(out, delta, layer.transposed, beta=0.0, alpha=self.scale)
        product = _in_halves(delta, layer.transposed)
        return product if self.scale == 1.0 else product.mul_(self.scale)

    def _is_halved(self, terms: int) -> bool:
        return self.halves and terms >= LONG_SUM and terms % 2 == 0


def _in_halves(left: Tensor, right: Tensor) -> Tensor:
    """Return `left @ right`, with each sum made of two."""
    half = left.shape[-1] // 2
    first, second = torch.bmm(
        left.view(-1, 2, half).transpose(0, 1), right.view(2, half, -1)
    ).unbind()
    return first.add_(second)
