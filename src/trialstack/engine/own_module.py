"""The training of a LightningModule of the user's own, by its own steps: what it logs is what is
measured.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor

from trialstack.core.errors import Diverged, UserError
from trialstack.core.objective import is_metric
from trialstack.core.random_streams import stream
from trialstack.data.minibatches import Batch
from trialstack.engine.eager import MADE_OF, Classifier
from trialstack.engine.networks import of_images
from trialstack.engine.protocol import TrainsOne
from trialstack.engine.shortest import shortest


class OwnModule(TrainsOne, Checkpoint):
    """Watches the training of a LightningModule, and is for callbacks what a Classifier is itself.

    It is a Checkpoint because Lightning calls those after the module's own `on_train_epoch_end`,
    the last hook that may log.

    Args:
        classifier: whose network the module is.
        objective: that it must log.
        last: what it measured in the epoch that it goes on from, None at its beginning.
    """

    def __init__(
        self,
        classifier: Classifier,
        objective: str,
        last: Mapping[str, float] | None,
    ) -> None:
        self.classifier = classifier
        self.objective = objective
        self.last = last
        self.trial_metrics: list[dict[str, float]] = [{}]
        self.diverged: dict[int, int] = {}
        self.ended: set[int] = set()
        self._rate: float | None = None
        self._validated = False
        self._before: set[str] = set()
        self._of_validation: set[str] = set()
        self._trainer: Trainer

    @property
    def minibatches(self) -> int:
        return int(self._trainer.num_training_batches)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._trainer = trainer

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the steps of ReduceLROnPlateau that Lightning makes after it has written an epoch's
        checkpoint, and not when it goes on from that.
        """
        if self.last is None or not pl_module.automatic_optimization:
            return
        for config in trainer.lr_scheduler_configs:
            due = config.interval == "epoch" and trainer.current_epoch % config.frequency == 0
            watched = self.last.get(str(config.monitor))
            if config.reduce_on_plateau and due and watched is not None:
                pl_module.lr_scheduler_step(config.scheduler, torch.tensor(watched))

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What is drawn depends on the seed and the epoch alone, as a Classifier's dropout."""
        epoch, rank = trainer.current_epoch, trainer.global_rank
        torch.manual_seed(stream(self.classifier.seed, epoch, rank))
        self._validated = False

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        if trainer.optimizers:
            self._rate = float(trainer.optimizers[0].param_groups[0]["lr"])

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._before = set(trainer.callback_metrics)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._validated = not trainer.sanity_checking
        self._of_validation |= set(trainer.callback_metrics) - self._before

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take what the module has logged.

        Raises:
            Diverged: a loss among it is not finite.
            UserError: the objective is not among it.
        """
        if self._rate is not None:
            pl_module.log("lr", self._rate)
        logged = trainer.callback_metrics
        measured = plain_metrics(
            {
                name: value
                for name, value in logged.items()
                if self._validated or name not in self._of_validation
            }
        )
        self.trial_metrics[0] = measured
        if not all(math.isfinite(x) for name, x in measured.items() if name.endswith("loss")):
            self.diverged[0] = trainer.current_epoch + 1
            raise Diverged(self.diverged[0])
        if self.objective not in measured and not self._validation_is_to_come(trainer):
            names = [name for name in measured if name != "lr"]
            target = self.classifier.model_group["_target_"]
            remedy = f"try objective={names[-1]}" if names else "log one with self.log"
            raise UserError(
                f"objective must be a metric that {target} logs, which are "
                f"{', '.join(names) or 'none'}, got {self.objective}; {remedy}"
            )

    def _validation_is_to_come(self, trainer: Trainer) -> bool:
        every = trainer.check_val_every_n_epoch or 1
        return trainer.enable_validation and (trainer.current_epoch + 1) % every != 0

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add what the module is made of, for its `load_from_checkpoint` and for ours."""
        model, spec = self.classifier.model_group, self.classifier.spec
        arguments = {name: value for name, value in model.items() if name != "_target_"}
        arguments |= of_images(model, spec.shape, len(spec.class_names))
        checkpoint["hyper_parameters"] = arguments | checkpoint.get("hyper_parameters", {})
        checkpoint[MADE_OF] = dict(self.classifier.hparams)


def plain_metrics(logged: Mapping[str, Tensor]) -> dict[str, float]:
    """Return what was logged, metrics and `lr`, without the forks that Lightning adds to what is
    logged by step and by epoch.
    """
    return {
        name: _plain(value)
        for name, value in logged.items()
        if (is_metric(name) or name == "lr")
        and not any(
            name.endswith(fork) and name.removesuffix(fork) in logged
            for fork in ("_step", "_epoch")
        )
    }


def _plain(scalar: Tensor) -> float:
    """The shortest decimal that stands for it, in at least 32 bits: numpy lacks bfloat16."""
    return shortest(scalar.to(torch.promote_types(scalar.dtype, torch.float32)))
