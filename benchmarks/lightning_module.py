"""The LightningModule of the usual templates: loss and accuracy through torchmetrics and self.log
at every step.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torch.nn.functional import cross_entropy
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import MulticlassAccuracy

from benchmarks.gate import Gate
from benchmarks.task import Task
from benchmarks.torch_loop import network, optimizer


class TemplateModule(pl.LightningModule):
    """Images [B, ...] to logits [B, 10]."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task = task
        self.model = network(task)
        self.losses = torch.nn.ModuleDict({part: MeanMetric() for part in ("fit", "val")})
        self.accuracies = torch.nn.ModuleDict(
            {part: MulticlassAccuracy(10) for part in ("fit", "val")}
        )

    def _step(self, batch: tuple[Tensor, Tensor], part: str) -> Tensor:
        images, labels = batch
        logits = self.model(images.flatten(1))
        loss = cross_entropy(logits, labels)
        for name, metrics, values in (
            ("loss", self.losses, (loss,)),
            ("acc", self.accuracies, (logits.argmax(1), labels)),
        ):
            metric = metrics[part]
            assert isinstance(metric, Metric)
            metric(*values)
            self.log(f"{part}/{name}", metric, on_step=False, on_epoch=True, prog_bar=True)
        return loss

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return self._step(batch, "fit")

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._step(batch, "val")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return optimizer(self.task, self)


class GateCallback(Callback):
    """Waits before every epoch."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate

    def on_train_epoch_start(self, *arguments: Any) -> None:
        self.gate()

    def on_fit_end(self, *arguments: Any) -> None:
        self.gate()


def fit(task: Task, gate: Gate, training: Any, validation: Any) -> None:
    """Train with TensorBoard, a progress bar, and a checkpoint of the last and the best epoch."""
    with TemporaryDirectory() as folder:
        checkpoint = ModelCheckpoint(Path(folder), monitor="val/acc", mode="max", save_last=True)
        trainer = pl.Trainer(
            max_epochs=task.epochs,
            devices=1,
            num_sanity_val_steps=0,
            logger=TensorBoardLogger(folder),
            callbacks=[GateCallback(gate), checkpoint],
        )
        trainer.fit(TemplateModule(task), training, validation)
