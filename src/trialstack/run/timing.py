"""An account of a run's time: which part of it took how many seconds."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from trialstack.engine import execution

PARTS = ("startup", "data", "training", "validation", "logging", "checkpoints", "test")


class Timing(Callback):
    """Adds up seconds by part.

    As a callback it measures what Lightning does: `training` and `validation`.
    """

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self._since = 0.0

    @contextmanager
    def measure(self, part: str) -> Iterator[None]:
        """Add the time of a `with` block to `part`, also if it raises."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - began

    def where_it_went(self, total: float) -> str | None:
        """Return where `total` seconds went, if more than a quarter of them went elsewhere than
        training.
        """
        if self.seconds["training"] >= 0.75 * total:
            return None
        shown = {part: self.seconds[part] for part in PARTS}
        shown["other"] = total - sum(shown.values())
        parts = sorted(shown.items(), key=lambda part: -part[1])
        return f"{total:.1f} s, of which " + ", ".join(
            f"{part} {seconds:.1f}" for part, seconds in parts if seconds >= 0.05
        )

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._since = time.perf_counter()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._close("training", trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._close("validation", trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._close("training", trainer)

    def _close(self, part: str, trainer: Trainer) -> None:
        """End a part at a point between epochs, where waiting for a GPU delays nothing."""
        if trainer.sanity_checking:
            return
        device = trainer.strategy.root_device
        execution.on(device).queue(device).wait()
        now = time.perf_counter()
        self.seconds[part] += now - self._since
        self._since = now
