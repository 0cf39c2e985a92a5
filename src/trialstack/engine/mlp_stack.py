"""The stack: networks of equal shape that train together, many optimizer steps a call, without
autograd.

A fully connected network's gradient is short enough to be written out, which removes most of the
time that small networks take.

Shapes: S trials in a stack, K optimizer steps in a chunk, B samples in a minibatch, D pixels, H
hidden units, C classes, P parameters of a trial, Q numbers of an optimizer's step, n samples.
Tensors of a single trial have no S: plain matrix products are a tenth faster than batches of one.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, gelu

from trialstack.core.random_streams import stream
from trialstack.data.minibatches import Samples
from trialstack.engine.checksums import Checksums
from trialstack.engine.cuda_graph import Replay
from trialstack.engine.eager import shortest
from trialstack.engine.models import MLP
from trialstack.engine.stacked_optimizer import Numbers, add_scaled, mean_over
from trialstack.engine.stacked_optimizers import build_optimizer

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

_relu_backward = torch.ops.aten.threshold_backward.grad_input
_tanh_backward = torch.ops.aten.tanh_backward.grad_input
_gelu_backward = torch.ops.aten.gelu_backward.grad_input
_ACTIVATIONS: dict[
    str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor, Tensor], Tensor]]
] = {
    "relu": (
        torch.relu_,
        lambda gradient, before, after: _relu_backward(gradient, after, 0, grad_input=gradient),
    ),
    "tanh": (
        torch.tanh_,
        lambda gradient, before, after: _tanh_backward(gradient, after, grad_input=gradient),
    ),
    "gelu": (
        gelu,
        lambda gradient, before, after: _gelu_backward(gradient, before, grad_input=gradient),
    ),
}
"""Each activation, and the gradient before it from the gradient (overwritten), the values before
and after it.
"""


class Stack:
    """S trials: their parameters, their optimizer, and their losses and accuracies.

    Args:
        networks: with the initial weights; of equal shape and activation.
        seeds: of each trial's dropout.
        optimizers: the `optimizer` group of each trial.
        samples: for training; everything else lies on their device.
        dtype: of weights and products.
    """

    def __init__(
        self,
        networks: Sequence[MLP],
        seeds: Sequence[int],
        optimizers: Sequence[Mapping[str, Any]],
        samples: Samples,
        dtype: torch.dtype,
    ) -> None:
        self.size = len(networks)
        self.seeds = seeds
        self.dropouts = [network.dropout for network in networks]
        self.activate, self.activate_backward = _ACTIVATIONS[networks[0].activation]
        self.images_nD, self.labels_n = samples.images.flatten(1), samples.labels
        device = self.labels_n.device
        linear = [layer for layer in networks[0] if isinstance(layer, nn.Linear)]
        self.widths = [linear[0].in_features, *(layer.out_features for layer in linear)]
        self.lead = () if self.size == 1 else (self.size,)
        count = sum(inputs * outputs + outputs for inputs, outputs in pairwise(self.widths))
        self.parameters = torch.zeros(*self.lead, 1, count, device=device, dtype=dtype)
        self.layers = self.views(self.parameters)
        self.transposed = [weights.mT for weights, _ in self.layers]
        for index, network in enumerate(networks):
            self.write(
                self.parameters, index, [parameter.detach() for parameter in network.parameters()]
            )
        self.optimizer = build_optimizer(optimizers, self.parameters)
        self.accumulator = self.views(self.optimizer.accumulator)
        self.table_QKS = torch.empty(0)
        self.classes_C1 = torch.arange(self.widths[-1], device=device).unsqueeze(1)
        self.train_totals, self.val_totals = (Totals(self.size, self.parameters) for _ in range(2))
        single = self.size == 1
        self.halves = single and device.type == "cpu"
        self.add_product: Callable[..., Tensor] = torch.addmm if single else torch.baddbmm
        self.product: Callable[..., Tensor] = torch.mm if single else torch.bmm
        self.accumulate: Callable[..., Tensor] = Tensor.addmm_ if single else Tensor.baddbmm_
        self._replay = Replay(device)

    def views(self, parameters: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return weights [S, in, out] and biases [S, 1, out] of each layer, as views of a tensor
        like `parameters`.
        """
        start, layers = 0, []
        for inputs, outputs in pairwise(self.widths):
            end = start + inputs * outputs
            weights = parameters[..., 0, start:end].view(*self.lead, inputs, outputs)
            layers.append((weights, parameters[..., end : end + outputs]))
            start = end + outputs
        return layers

    def trial_views(self, parameters: Tensor, index: int) -> list[Tensor]:
        """Return a trial's part of a tensor like `parameters`: weights [out, in] and biases [out],
        as MLP has them.
        """
        return [
            view
            for weights, bias in self.views(parameters)
            for view in (
                (weights if self.size == 1 else weights[index]).mT,
                bias.view(self.size, -1)[index],
            )
        ]

    def write(self, parameters: Tensor, index: int, values: Sequence[Tensor]) -> None:
        """Set a trial's part of a tensor like `parameters`."""
        for view, value in zip(self.trial_views(parameters, index), values, strict=True):
            view.copy_(value)

    def read(self, parameters: Tensor, index: int) -> list[Tensor]:
        """Return a trial's part of a tensor like `parameters`, copied to the CPU."""
        of_trial = self.trial_views(parameters, index)
        return [view.clone(memory_format=torch.contiguous_format).cpu() for view in of_trial]

    def begin_epoch(self, rates_KS: NDArray[np.float64], first: int) -> None:
        """Lay out an epoch's steps.

        Args:
            rates_KS: their learning rates.
            first: number of the first of them in the run, from 0.
        """
        table_QKS = self.optimizer.table(rates_KS, first)
        self.table_QKS = table_QKS.to(self.parameters) if self.parameters.is_cuda else table_QKS

    @torch.inference_mode()
    def train_chunk(self, index_nKB: Tensor, epoch: int, number: int, start: int) -> None:
        """Make K optimizer steps.

        Args:
            index_nKB: of the samples in each step's minibatch; n is S, or 1 if all trials have the
                same.
            epoch: from 0.
            number: of the chunk in the epoch, from 0: dropout depends on it.
            start: number of the first step in the epoch, from 0.
        """
        _, steps, batch_size = index_nKB.shape
        masks = self._masks(epoch, number, steps, batch_size)
        self._replay(self._steps, index_nKB, self.table_QKS[:, start : start + steps], *masks)
        self.train_totals.samples += steps * batch_size

    @torch.inference_mode()
    def forward(self, images_BD: Tensor) -> Tensor:
        """Return logits [S, B, C]."""
        values = images_BD if self.size == 1 else images_BD.expand(self.size, *images_BD.shape)
        *hidden, (weights, bias) = self.layers
        for weights_below, bias_below in hidden:
            values = self.activate(self.add_product(bias_below, values, weights_below))
        return self.add_product(bias, values, weights).view(self.size, len(images_BD), -1)

    def validate(self, images_BD: Tensor, labels_B: Tensor) -> None:
        """Add samples to `val_totals`."""
        self.val_totals.add(self.forward(images_BD).mT, labels_B.expand(self.size, -1))
        self.val_totals.samples += len(labels_B)

    def try_steps(self, index_nKB: Tensor, epoch: int, number: int, start: int) -> Tensor:
        """Return a checksum of what each operation of `train` gives, whose changes are undone."""
        totals = self.train_totals
        changed = [self.parameters, *self.optimizer.state.values(), totals.loss_S, totals.correct_S]
        before, samples = [tensor.clone() for tensor in changed], totals.samples
        with Checksums() as checksums:
            self.train_chunk(index_nKB, epoch, number, start)
        for tensor, value in zip(changed, before, strict=True):
            tensor.copy_(value)
        totals.samples = samples
        return torch.stack(checksums.made)

    def _masks(self, epoch: int, number: int, steps: int, batch_size: int) -> tuple[Tensor, ...]:
        """Return of each hidden layer [S, K, B, H]: 0 where a unit is dropped, else 1 / (1 -
        dropout).
        """
        hidden = self.widths[1:-1] if any(self.dropouts) else []
        masks = tuple(
            self.parameters.new_empty(self.size, steps, batch_size, width) for width in hidden
        )
        for index, (seed, dropout) in enumerate(zip(self.seeds, self.dropouts, strict=True)):
            generator = torch.Generator(self.parameters.device).manual_seed(
                stream(seed, epoch, number)
            )
            for mask in masks:
                mask[index].uniform_(generator=generator).ge_(dropout).div_(1 - dropout)
        return masks

    def _steps(self, index_nKB: Tensor, table_QKS: Tensor, *masks_SKBH: Tensor) -> None:
        _, steps, batch_size = index_nKB.shape
        labels_KnB = self.labels_n[index_nKB].transpose(0, 1)
        masks = [self._by_step(mask) for mask in masks_SKBH]
        by_step = (steps, *self.lead, self.widths[-1], batch_size)
        logits = self.parameters.new_empty(by_step)
        table_QKS = mean_over(table_QKS, batch_size)  # as cross-entropy is
        scale_KS = table_QKS[0].to(self.parameters)
        targets_KSCB = (labels_KnB.unsqueeze(-2) == self.classes_C1) * -scale_KS[..., None, None]
        ones = self.parameters.new_ones(*self.lead, 1, batch_size)
        for images, targets, kept, outputs, step in zip(
            self._minibatches(index_nKB),
            targets_KSCB.view(by_step).unbind(),
            zip(*masks, strict=True) if masks else [()] * steps,
            logits.unbind(),
            self.optimizer.steps(table_QKS),
            strict=True,
        ):
            self._step(images, targets, kept, outputs, ones, step)
        self.train_totals.add(
            logits.view(targets_KSCB.shape), labels_KnB.expand(steps, self.size, batch_size)
        )

    def _by_step(self, values_nK: Tensor) -> tuple[Tensor, ...]:
        return (values_nK[0] if self.size == 1 else values_nK.transpose(0, 1)).unbind()

    def _minibatches(self, index_nKB: Tensor) -> Iterator[Tensor]:
        """The images of each step, [S, B, D]."""
        n, _, batch_size = index_nKB.shape
        for index in index_nKB.split(max(1, GATHERED_ROWS // (n * batch_size)), dim=1):
            rows = index.transpose(0, 1).reshape(-1)
            images = self.images_nD.index_select(0, rows).to(self.parameters.dtype)
            if self.size == 1:
                yield from images.view(-1, batch_size, self.widths[0]).unbind()
            else:
                yield from (
                    images.view(-1, n, batch_size, self.widths[0])
                    .expand(-1, self.size, -1, -1)
                    .unbind()
                )

    def _step(
        self,
        images: Tensor,
        targets: Tensor,
        masks: Sequence[Tensor],
        logits: Tensor,
        ones: Tensor,
        step: Numbers,
    ) -> None:
        """One optimizer step on a minibatch.

        Args:
            images: [S, B, D].
            targets: [S, C, B], negative, scaled as gradients are; softmax is faster over rows of
                samples.
            masks: of each hidden layer, [S, B, H]; none without dropout.
            logits: [S, C, B], written.
            ones: [S, 1, B].
            step: its numbers.
        """
        *hidden, (weights, bias) = self.layers
        inputs, passed = images, []
        for layer, (weights_below, bias_below) in enumerate(hidden):
            before = self._linear(bias_below, inputs, weights_below)
            after = self.activate(before)
            passed.append((inputs, before, after))
            inputs = after * masks[layer] if masks else after
        self.add_product(bias, inputs, weights, out=logits.mT)
        delta = add_scaled(targets, logits.softmax(-2), step.scale).mT
        gradients = [(inputs, delta)]
        for layer in range(len(hidden) - 1, -1, -1):
            delta = self._product(delta, self.transposed[layer + 1])
            if masks:
                delta.mul_(masks[layer])
            inputs, before, after = passed[layer]
            delta = self.activate_backward(delta, before, after)
            gradients.append((inputs, delta))
        keep = self.optimizer.begin(step)
        for (weights, bias), (inputs, delta) in zip(
            self.accumulator, reversed(gradients), strict=True
        ):
            self.accumulate(weights, inputs.mT, delta, beta=keep)
            self.accumulate(bias, ones, delta, beta=keep)
        self.optimizer.end(step)

    def _linear(self, bias: Tensor, inputs: Tensor, weights: Tensor) -> Tensor:
        """Return `inputs @ weights + bias`."""
        if not self._is_halved(inputs):
            return self.add_product(bias, inputs, weights)
        return self._product(inputs, weights).add_(bias)

    def _product(self, left: Tensor, right: Tensor) -> Tensor:
        """Return `left @ right`."""
        if not self._is_halved(left):
            return self.product(left, right)
        half = left.shape[-1] // 2
        first, second = torch.bmm(
            left.view(-1, 2, half).transpose(0, 1), right.unflatten(0, (2, half))
        ).unbind()
        return first.add_(second)

    def _is_halved(self, left: Tensor) -> bool:
        terms = left.shape[-1]
        return self.halves and terms >= LONG_SUM and terms % 2 == 0


class Totals:
    """Sums of loss and of correct classifications, by trial, kept on the device until they are
    asked for.
    """

    def __init__(self, size: int, like: Tensor) -> None:
        self.loss_S = torch.zeros(size, device=like.device, dtype=torch.float64)
        self.correct_S = torch.zeros(size, device=like.device, dtype=torch.int64)
        self.size = size
        self.samples = 0
        self.dtype = like.dtype

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Add logits [..., S, C, B] and labels [..., S, B]; the caller counts `samples`."""
        losses = cross_entropy(logits.flatten(0, -3), labels.flatten(0, -2), reduction="none").view(
            labels.shape
        )
        correct = logits.max(-2).indices == labels
        self.loss_S += losses.sum(-1, dtype=torch.float64).view(-1, self.size).sum(0)
        self.correct_S += correct.sum(-1).view(-1, self.size).sum(0)

    def finish(self) -> tuple[list[float], list[float]]:
        """Return mean losses [S] and accuracies [S] over the samples, and start anew."""
        means = [
            (total.double() / self.samples).to(self.dtype)
            for total in (self.loss_S, self.correct_S)
        ]
        losses, accuracies = ([shortest(scalar) for scalar in mean.cpu()] for mean in means)
        self.loss_S.zero_()
        self.correct_S.zero_()
        self.samples = 0
        return losses, accuracies
