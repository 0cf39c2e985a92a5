"""The eager engine: one network, any nn.Module, on plain Lightning with autograd.

Shapes: B samples in a minibatch, C classes; images are [B, channels, height, width].
"""

import math
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.types import LRSchedulerConfigType, OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau
from torchmetrics import SumMetric

from trialstack.core.build import build
from trialstack.core.errors import Diverged, UserError
from trialstack.core.groups import CrossEntropyConfig
from trialstack.core.objective import direction
from trialstack.core.random_streams import stream
from trialstack.core.schedule import Length, OfSteps
from trialstack.core.schedules import parse_schedule
from trialstack.core.schedules.plateau import Plateau
from trialstack.core.schema import TrialConfig
from trialstack.core.sizes import check_class_weights
from trialstack.data.datamodule import ImageDataModule
from trialstack.data.image_spec import ImageSpec
from trialstack.data.minibatches import Batch
from trialstack.engine.metrics import Metrics, Output
from trialstack.engine.networks import build_network
from trialstack.engine.protocol import TrainsOne
from trialstack.engine.shortest import shortest

MADE_OF = "classifier"
"""Where the checkpoint of a LightningModule of the user's own has the arguments of the Classifier
that held it.
"""


class Classifier(TrainsOne, LightningModule):
    """Images to logits [B, C]. All arguments are primitives and go into checkpoints.

    Logs `loss` and `acc` of `train`, `val` and `test`, `metrics` of the last two, and `lr`, once an
    epoch.

    Args:
        spec: an `ImageSpec`'s primitives: the images and classes it is made for.
        model: `_target_` (an nn.Module) and its arguments. A LightningModule trains itself, and
            may give something else than logits.
        optimizer: `_target_` (a torch.optim.Optimizer) and its arguments.
        schedule: a `schedule` group.
        loss: `_target_` (an nn.Module of logits [B, C] and labels [B]) and its arguments.
        metrics: of each metric, by name, `_target_` (a torchmetrics.Metric) and its arguments.
        seed: of initial weights and dropout.

    Attributes:
        epochs: that the schedule is laid out for, if not those of the Trainer.
    """

    def __init__(
        self,
        spec: dict[str, Any],
        model: dict[str, Any],
        optimizer: dict[str, Any],
        schedule: dict[str, Any],
        loss: dict[str, Any],
        metrics: dict[str, Any],
        seed: int,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.seed = seed
        self.model_group, self.optimizer_group = model, optimizer
        self.schedule = parse_schedule(schedule)
        self.spec = ImageSpec.from_primitives(spec)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = build_network(model, self.spec)
        self.criterion: nn.Module = build("loss", loss, nn.Module)
        self.metrics = Metrics(metrics, len(self.spec.class_names))
        self.outputs: list[Output] = []
        self.example_input_array = torch.zeros(1, *self.spec.shape) if self.own is None else None
        self.epochs: int | None = None
        self._lr: float | None = None
        self.trial_metrics: list[dict[str, float]] = [{}]
        self.diverged: dict[int, int] = {}
        self.ended: set[int] = set()

    @property
    def own(self) -> LightningModule | None:
        """The network, if it trains itself."""
        return self.network if isinstance(self.network, LightningModule) else None

    def setup(self, stage: str) -> None:
        """Make the metrics: a classifier in a stack needs none."""
        self.train_metrics, self.val_metrics, self.test_metrics = (EpochMetrics() for _ in range(3))

    @property
    def minibatches(self) -> int:
        return int(self.trainer.num_training_batches)

    def check_shapes(self) -> None:
        """Push two blank images through the network, and its logits through the loss; try the
        metrics.

        Raises:
            UserError: it does not take the dataset's images, or gives something else than logits
                [2, C]; or the loss does not take those and labels, or gives something else than
                one number; or a metric does.
        """
        target, classes = self.model_group.get("_target_"), len(self.spec.class_names)
        images = torch.zeros(2, *self.spec.shape)
        try:
            with torch.no_grad():
                logits = self.eval()(images)
        except Exception as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"model: {target} does not take images {list(images.shape)}: {reason}"
            ) from error
        self.train()
        if getattr(logits, "shape", None) != (2, classes):
            got = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise UserError(f"model: {target} must give logits {[2, classes]}, got {got}")
        self._check_loss(logits)
        self.metrics.check(classes)

    def _check_loss(self, logits: Tensor) -> None:
        target = self.hparams["loss"].get("_target_")
        try:
            loss = self.criterion(logits, torch.zeros(len(logits), dtype=torch.int64))
        except Exception as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"loss: {target} does not take logits {list(logits.shape)} and labels "
                f"{[len(logits)]}: {reason}"
            ) from error
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            raise UserError(f"loss: {target} must give one number, the mean over a minibatch")

    def forward(self, images: Tensor) -> Tensor:
        logits_BC: Tensor = self.network(images)
        return logits_BC

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self._step(batch, self.train_metrics)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._step(batch, self.val_metrics, keep=bool(self.metrics))

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._step(batch, self.test_metrics, keep=bool(self.metrics))

    def _step(self, batch: Batch, metrics: "EpochMetrics", keep: bool = False) -> Tensor:
        images, labels_B = batch
        logits_BC = self(images)
        loss: Tensor = self.criterion(logits_BC, labels_B)
        metrics.record(loss, logits_BC, labels_B)
        if keep:
            self.outputs.append((logits_BC, labels_B))
        return loss

    def on_train_epoch_start(self) -> None:
        """Dropout depends on the seed and the epoch alone, so that a resumed run draws what it
        would have drawn.
        """
        torch.manual_seed(stream(self.seed, self.current_epoch, self.global_rank))

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        if not isinstance(scheduler, ReduceLROnPlateau):
            # what the step was made with
            self._lr = float(scheduler.optimizer.param_groups[0]["lr"])
            super().lr_scheduler_step(scheduler, metric)

    def on_validation_epoch_end(self) -> None:
        self._log_epoch("val", self.val_metrics)

    def on_test_epoch_end(self) -> None:
        self._log_epoch("test", self.test_metrics)

    def on_train_epoch_end(self) -> None:
        """Close the epoch.

        Raises:
            Diverged: the loss of training or validation is not finite.
        """
        self._log_epoch("train", self.train_metrics)
        self._log(
            {
                "lr": self._lr
                if self._lr is not None
                else float(self.trainer.optimizers[0].param_groups[0]["lr"])
            }
        )
        if not all(
            math.isfinite(self.trial_metrics[0].get(f"{part}/loss", 0.0))
            for part in ("train", "val")
        ):
            self.diverged[0] = self.current_epoch + 1
            raise Diverged(self.diverged[0])
        if isinstance(self.schedule, Plateau):
            self._follow(self.schedule.monitor)

    def _follow(self, metric: str) -> None:
        """Make the step of a scheduler that follows a metric, if the epoch has measured it.

        Lightning would make it after the epoch's checkpoint is written, and a run that goes on from
        there never.
        """
        [config] = self.trainer.lr_scheduler_configs
        assert isinstance(config.scheduler, ReduceLROnPlateau)
        if (self.current_epoch + 1) % config.frequency == 0:
            config.scheduler.step(self.trial_metrics[0][metric])

    def _log_epoch(self, part: str, metrics: "EpochMetrics") -> None:
        loss, accuracy = metrics.finish()
        measured = {"loss": loss, "acc": accuracy}
        if part != "train":
            measured |= self.metrics.measure(self.outputs, self.trainer.world_size > 1)
            self.outputs.clear()
        named = {f"{part}/{name}": value for name, value in measured.items()}
        self._log(named, logger=part == "test")

    def _log(self, values: dict[str, float], logger: bool = False) -> None:
        """Log to Lightning; in training it is History that writes to the loggers, against optimizer
        steps.
        """
        self.trial_metrics[0].update(values)
        self.log_dict(values, prog_bar=True, logger=logger)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        return self.configured_for(self.trainer)

    def configured_for(self, trainer: Trainer) -> OptimizerLRSchedulerConfig:
        """Return the optimizer of the network, with its schedule, for a Trainer of this module or
        of the network alone.
        """
        optimizer: Optimizer = build(
            "optimizer", self.optimizer_group, Optimizer, self.parameters()
        )
        if isinstance(self.schedule, OfSteps):
            scheduler = self._scheduler_of_steps(optimizer, self.schedule, trainer)
        else:
            assert isinstance(self.schedule, Plateau)
            scheduler = self._following_scheduler(optimizer, self.schedule, trainer)
        return {"optimizer": optimizer, "lr_scheduler": scheduler}

    def _scheduler_of_steps(
        self, optimizer: Optimizer, schedule: OfSteps, trainer: Trainer
    ) -> LRSchedulerConfigType:
        steps, epochs = int(trainer.estimated_stepping_batches), trainer.max_epochs
        assert epochs is not None
        base, all_steps = float(optimizer.param_groups[0]["lr"]), steps
        if self.epochs is not None:
            all_steps = steps * self.epochs // epochs
        rates_K = schedule.rates(
            np.arange(steps, dtype=np.float64), base, Length(all_steps, steps / epochs)
        ).tolist()
        for group in optimizer.param_groups:
            group["initial_lr"] = 1.0  # LambdaLR multiplies it by what follows
        # it asks for the rate of the step after the last one, too
        scheduler = LambdaLR(optimizer, lambda step: rates_K[min(step, steps - 1)])
        return {"scheduler": scheduler, "interval": "step"}

    def _following_scheduler(
        self, optimizer: Optimizer, schedule: Plateau, trainer: Trainer
    ) -> LRSchedulerConfigType:
        """Its steps are Lightning's to make for a module of the user's own; else they are ours, and
        Lightning keeps it in checkpoints.
        """
        monitor = schedule.monitor
        of_validation = monitor.startswith("val/")
        return {
            "scheduler": ReduceLROnPlateau(optimizer, direction(monitor), **schedule.arguments),
            "interval": "epoch",
            "frequency": (trainer.check_val_every_n_epoch or 1) if of_validation else 1,
            "monitor": monitor,
            "reduce_on_plateau": self.own is not None,
        }


class EpochMetrics(nn.Module):
    """Mean loss and accuracy of an epoch: collected on the device, over all processes, and read
    once.
    """

    def __init__(self) -> None:
        super().__init__()
        # MeanMetric forgets its weights with this strategy
        self.loss_sum = SumMetric(nan_strategy="disable")
        self.correct, self.samples = SumMetric(), SumMetric()
        self.steps: list[tuple[Tensor, Tensor]] = []

    def record(self, loss: Tensor, logits_BC: Tensor, labels_B: Tensor) -> None:
        self.steps.append((loss.detach(), logits_BC.detach().argmax(1) == labels_B))

    def finish(self) -> tuple[float, float]:
        """Return mean loss over samples and accuracy, and start anew."""
        dtype = torch.promote_types(torch.get_default_dtype(), torch.float32)
        for metric in (self.loss_sum, self.correct, self.samples):
            # 16 bits, which Lightning gives a module in bf16-true, cannot count samples
            metric.set_dtype(dtype)
        if self.steps:
            losses, hits = zip(*self.steps, strict=True)
            sizes = torch.tensor([len(hit) for hit in hits], device=losses[0].device)
            self.loss_sum.update(torch.stack(losses).to(dtype) * sizes)
            self.correct.update(torch.cat(hits).sum())
            self.samples.update(sizes)
        self.steps.clear()
        loss, accuracy = (
            part.compute() / self.samples.compute() for part in (self.loss_sum, self.correct)
        )
        for metric in (self.loss_sum, self.correct, self.samples):
            metric.reset()
        return shortest(loss), shortest(accuracy.float())


def hyperparameters(config: TrialConfig, data: ImageDataModule) -> dict[str, Any]:
    """Return a Classifier's arguments from a trial's config and the data that it is trained with.

    Raises:
        UserError: classes cannot be balanced, or have too few or too many weights.
    """
    assert data.spec is not None
    loss, classes = dict(config.loss.values), len(data.class_names)
    if isinstance(config.loss, CrossEntropyConfig):
        weights = config.loss.class_weights
        if weights == "balanced":
            loss["class_weights"] = data.balanced_weights(config.data.fold)
        elif isinstance(weights, list):
            check_class_weights(weights, data.dataset, classes)
    return {
        "spec": data.spec.primitives(),
        "model": dict(config.model.values),
        "optimizer": dict(config.optimizer.values),
        "schedule": dict(config.schedule.values),
        "loss": loss,
        "metrics": dict(config.values["metrics"]),
        "seed": config.seed,
    }
