"""The stacked engine: S trials at once, many optimizer steps in every `training_step`.

Shapes: S trials, R different orders of minibatches, F different folds, K optimizer steps in a
chunk, B samples in a minibatch.
"""

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from trialstack.core.errors import Diverged
from trialstack.core.objective import improves
from trialstack.core.schedule import Length, OfSteps
from trialstack.data.minibatches import Batch, Samples
from trialstack.engine import execution
from trialstack.engine.chunks import Order, ShuffledChunks, folds_of
from trialstack.engine.eager import Classifier
from trialstack.engine.losses import CrossEntropyLoss
from trialstack.engine.metrics import Output
from trialstack.engine.mlp_stack import Stack
from trialstack.engine.models import MLP
from trialstack.engine.packing import Packing
from trialstack.engine.protocol import Outcome
from trialstack.engine.stacked_optimizers import complete_settings, tensors_per_parameter

PART_BYTES = 16 * 2**20
"""What the parameters, gradients and optimizer state of a part take on a CPU: the L3 cache of an
ordinary machine.
"""


class Part(NamedTuple):
    """Trials that are computed in one product; a large stack on a CPU has several parts, one after
    another.

    Attributes:
        indices: their places in the stack.
        rows: of their minibatches among those of all orders: one, or one a trial.
        folds: of each trial, its fold among those of all.
        stack: their parameters.
    """

    indices: list[int]
    rows: Tensor
    folds: Tensor
    stack: Stack


class StackedClassifier(LightningModule):
    """Trains S classifiers that differ in numbers only; what a trial learns does not depend on the
    others.

    It logs what `Classifier` logs, with several trials that of the best one. Its checkpoints are a
    `Classifier`'s; with several trials, the list `trials` has theirs. For callbacks, one trial has
    its `network`, whose parameters are views of the stack's; several have none.

    Args:
        classifiers: with their initial weights.
        samples: for training and validation, on the device.
        chunks: of the minibatches.
        orders: of each trial, one of the chunks'.
        objective: what the best trial is best at.
        epochs: that schedules are laid out for, though the Trainer's may be fewer.
    """

    def __init__(
        self,
        classifiers: Sequence[Classifier],
        samples: Samples,
        chunks: ShuffledChunks,
        orders: Sequence[Order],
        objective: str,
        epochs: int,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        # for their initial weights alone
        self.networks = [classifier.network for classifier in classifiers]
        self.names = [
            [f"network.{name}" for name, _ in network.named_parameters()]
            for network in self.networks
        ]
        self.hyperparameters = [dict(classifier.hparams) for classifier in classifiers]
        self.seeds = [classifier.seed for classifier in classifiers]
        self.optimizer_groups = [classifier.optimizer_group for classifier in classifiers]
        self.losses = [classifier.criterion for classifier in classifiers]
        self.metrics = classifiers[0].metrics
        self.outputs: list[list[Output]] = [[] for _ in classifiers]
        # what follows a metric is not planned into a stack
        schedules = [classifier.schedule for classifier in classifiers]
        self.schedules = [schedule for schedule in schedules if isinstance(schedule, OfSteps)]
        self.base_rates = [
            float(complete_settings(optimizer)["lr"]) for optimizer in self.optimizer_groups
        ]
        self.samples = samples
        self.chunks = chunks
        self.orders = orders
        self.objective = objective
        self.epochs = epochs
        self.parts: list[Part] = []
        self.trial_metrics: list[dict[str, float]] = [{} for _ in classifiers]
        self.queue = execution.on(samples.labels.device).queue(samples.labels.device)
        self.diverged: dict[int, int] = {}
        self.ended: set[int] = set()
        self.resumed: Sequence[Mapping[str, Any]] | None = None
        self._step = 0
        if len(classifiers) == 1:
            self.save_hyperparameters(self.hyperparameters[0], logger=False)
            self.network = self.networks[0]

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [B, C] of one trial."""
        logits_BC: Tensor = self.network(images)
        return logits_BC

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Leave the weights where they are: a copy of them elsewhere, or in another precision,
        would not be trained.
        """
        return self

    @property
    def minibatches(self) -> int:
        return self.chunks.steps

    def outcomes(self) -> list[Outcome]:
        return [Outcome(self.diverged.get(index)) for index in range(len(self.trial_metrics))]

    def minibatches_in(self, batch: Tensor) -> int:
        return batch.shape[1]

    def samples_in(self, batch: Tensor) -> int:
        return batch[0].numel()

    def setup(self, stage: str) -> None:
        """Lay the trials out on the samples' device, in the trainer's precision."""
        if self.parts:
            return
        dtype = torch.float64 if self.trainer.precision == "64-true" else torch.float32
        by_seed = sorted(range(len(self.seeds)), key=lambda index: self._row(index))
        self.parts = [
            self._part(indices.tolist(), dtype)
            for indices in np.array_split(by_seed, self._part_count(dtype))
        ]
        self.networks.clear()
        if len(self.seeds) == 1:
            [part] = self.parts
            views = part.stack.packing.of_trial(part.stack.parameters, 0)
            for parameter, view in zip(self.network.parameters(), views, strict=True):
                parameter.data = view

    def _row(self, index: int) -> int:
        return self.chunks.orders.index(self.orders[index])

    def _part_count(self, dtype: torch.dtype) -> int:
        if not execution.on(self.samples.labels.device).parts:
            return 1
        tensors = tensors_per_parameter(self.optimizer_groups)
        parameters = Packing(
            [network.widths for network in self._mlps(range(len(self.seeds)))]
        ).size
        return min(
            len(self.seeds),
            -(-len(self.seeds) * parameters * tensors * dtype.itemsize // PART_BYTES),
        )

    def _mlps(self, indices: Iterable[int]) -> list[MLP]:
        networks = [self.networks[index] for index in indices]
        return [network for network in networks if isinstance(network, MLP)]

    def _part(self, indices: list[int], dtype: torch.dtype) -> Part:
        losses = [self.losses[index] for index in indices]
        rows = [self._row(index) for index in indices]
        stack = Stack(
            self._mlps(indices),
            [self.seeds[index] for index in indices],
            [self.optimizer_groups[index] for index in indices],
            [loss for loss in losses if isinstance(loss, CrossEntropyLoss)],
            self.samples,
            dtype,
        )
        shared = rows[:1] if len(set(rows)) == 1 else rows
        firsts = folds_of(self.orders)
        folds = [firsts.index(self.orders[index].first) for index in indices]
        device = self.samples.labels.device
        return Part(
            indices, torch.tensor(shared, device=device), torch.tensor(folds, device=device), stack
        )

    def configure_optimizers(self) -> list[Any]:
        """The stacks have their own."""
        return []

    def on_train_epoch_start(self) -> None:
        steps, first = self.chunks.steps, self.global_step
        total = steps * self.epochs
        numbers_K = np.arange(first, first + steps, dtype=np.float64)
        for part in self.parts:
            rates_SK = [
                self.schedules[index].rates(numbers_K, self.base_rates[index], Length(total, steps))
                for index in part.indices
            ]
            rates_KS = np.stack(rates_SK, axis=1)
            part.stack.begin_epoch(rates_KS, first, self.current_epoch, self.chunks.batch_size)
            for index, rates_K in zip(part.indices, rates_SK, strict=True):
                self._measure(index, {"lr": float(rates_K[-1])})
        self._step = 0

    def training_step(self, index_RKB: Tensor, batch_idx: int) -> None:
        steps = self.minibatches_in(index_RKB)
        for part in self.parts:
            part.stack.train_chunk(index_RKB[part.rows], self._step)
        self.queue.advance()
        self._step += steps
        progress = self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
        for counts in (progress.total, progress.current):  # what trainer.global_step counts
            counts.ready += steps
            counts.completed += steps

    def try_steps(self, index_RKB: Tensor) -> Tensor:
        """Return a checksum of what each operation of `training_step` gives, whose changes are
        undone.
        """
        return torch.cat(
            [part.stack.try_steps(index_RKB[part.rows], self._step) for part in self.parts]
        )

    def validation_step(self, batch: Batch | Tensor, batch_idx: int) -> None:
        """Validate on a minibatch that all trials share, or with `index_FB` on each trial's own."""
        for part in self.parts:
            images, labels = self._own(batch[part.folds]) if isinstance(batch, Tensor) else batch
            logits_SBC = part.stack.validate(images.flatten(-3), labels)
            if self.metrics:
                labels_SB = labels.expand(len(logits_SBC), -1)
                outputs = zip(part.indices, logits_SBC, labels_SB, strict=True)
                for index, logits_BC, labels_B in outputs:
                    self.outputs[index].append((logits_BC, labels_B))

    def _own(self, index_SB: Tensor) -> Batch:
        images = self.samples.images[index_SB].to(self.parts[0].stack.parameters.dtype)
        return images, self.samples.labels[index_SB]

    def on_validation_epoch_end(self) -> None:
        self._finish("val")

    def on_train_epoch_end(self) -> None:
        """Close the epoch.

        Raises:
            Diverged: the losses of all trials are not finite, in this epoch or an earlier one.
        """
        self._finish("train")
        for index, measured in enumerate(self.trial_metrics):
            finite = all(
                math.isfinite(measured.get(f"{part}/loss", 0.0)) for part in ("train", "val")
            )
            if not finite and index not in self.ended:
                self.diverged.setdefault(index, self.current_epoch + 1)
        if len(self.diverged) == len(self.trial_metrics):
            raise Diverged(self.current_epoch + 1)

    def _finish(self, name: str) -> None:
        for part in self.parts:
            totals = part.stack.train_totals if name == "train" else part.stack.val_totals
            for index, loss, accuracy in zip(part.indices, *totals.finish(), strict=True):
                self._measure(index, {f"{name}/loss": loss, f"{name}/acc": accuracy})
        for index, outputs in enumerate(self.outputs):  # none in training
            measured = self.metrics.measure(outputs)
            self._measure(index, {f"{name}/{metric}": x for metric, x in measured.items()})
            outputs.clear()
        best = self.trial_metrics[self._best()]
        shown = {
            key: value
            for key, value in best.items()
            if key.startswith(f"{name}/") or (key == "lr" and name == "train")
        }
        self.log_dict(shown, prog_bar=True, logger=False)

    def _measure(self, index: int, values: Mapping[str, float]) -> None:
        """Keep what was measured of a trial; one that has ended is computed on with the others, for
        nothing.
        """
        if index not in self.ended:
            self.trial_metrics[index].update(values)

    def training_trials(self) -> list[int]:
        """Return the trials that have neither diverged nor ended."""
        return [
            index
            for index in range(len(self.trial_metrics))
            if index not in self.diverged and index not in self.ended
        ]

    def _best(self) -> int:
        best, score = 0, None
        for index, measured in enumerate(self.trial_metrics):
            if improves(measured.get(self.objective, math.nan), score, self.objective):
                best, score = index, measured[self.objective]
        return best

    def keep(self, indices: Collection[int]) -> None:
        """Keep the weights that these trials have now as their best."""
        for part in self.parts:
            kept = [at for at, index in enumerate(part.indices) if index in indices]
            if kept:
                part.stack.keep(kept)

    def best(self, indices: Collection[int]) -> dict[int, dict[str, Any]]:
        """Return what `Classifier.load_from_checkpoint` needs of these trials' kept weights."""
        return {
            index: self._weights(index, values)
            for index, [values] in self._read(indices, lambda stack: [stack.best])
        }

    def states(self, indices: Collection[int]) -> dict[int, dict[str, Any]]:
        """Return these trials' weights with their optimizers' states, laid out as torch.optim
        does.
        """
        states = {}
        for index, (values, *moments) in self._read(
            indices, lambda stack: [stack.parameters, *stack.optimizer.state.values()]
        ):
            part, _ = self._place(index)
            names = part.stack.optimizer.state
            of_parameters = [
                dict(zip(names, numbers, strict=True)) for numbers in zip(*moments, strict=True)
            ]
            optimizer_states = [{"state": dict(enumerate(of_parameters))}]
            states[index] = self._weights(index, values) | {"optimizer_states": optimizer_states}
        return states

    def _weights(self, index: int, values: Sequence[Tensor]) -> dict[str, Any]:
        return {
            "engine": "stacked",
            "state_dict": dict(zip(self.names[index], values, strict=True)),
            "hparams_name": "kwargs",
            "hyper_parameters": self.hyperparameters[index],
        }

    def _read(
        self, indices: Collection[int], of: Callable[[Stack], Sequence[Any]]
    ) -> Iterator[tuple[int, list[list[Tensor]]]]:
        """Of each of these trials, its parts of some of its stack's tensors, on the CPU."""
        for part in self.parts:
            wanted = [(at, index) for at, index in enumerate(part.indices) if index in indices]
            tensors = self.queue.fetch(of(part.stack)) if wanted else []
            for at, index in wanted:
                yield index, [part.stack.packing.read(tensor, at) for tensor in tensors]

    def load_state(self, index: int, state: Mapping[str, Any]) -> None:
        """Set a trial to what `states` returned of it."""
        part, position = self._place(index)
        values = list(state["state_dict"].values())
        part.stack.packing.write(part.stack.parameters, position, values)
        moments = state["optimizer_states"][0]["state"]
        for name, tensor in part.stack.optimizer.state.items():
            # a stack has momentum buffers if one of its trials has momentum
            if moments and name in moments[0]:
                values = [moments[i][name] for i in range(len(moments))]
                part.stack.packing.write(tensor, position, values)

    def _place(self, index: int) -> tuple[Part, int]:
        part = next(part for part in self.parts if index in part.indices)
        return part, part.indices.index(index)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        states = self.states(range(len(self.seeds)))
        trials = [states[index] for index in range(len(states))]
        checkpoint.update(trials[0] if len(trials) == 1 else {"trials": trials})

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        for index, state in enumerate(self.resumed or checkpoint.get("trials") or [checkpoint]):
            self.load_state(index, state)
        checkpoint["state_dict"] = self.state_dict()  # which is loaded already
