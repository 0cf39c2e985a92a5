"""Why a training ends before its last epoch."""

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping, Timer
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason


def early_end(trainer: Trainer) -> str | None:
    """Return why the epoch that is being closed is the last one, None if others follow or none was
    left.

    Callbacks that stop a training must have been called for this epoch.
    """
    epochs, steps = trainer.current_epoch + 1, trainer.global_step
    if epochs == trainer.max_epochs:
        return None
    if trainer.max_steps != -1 and steps >= trainer.max_steps:
        return f"trainer.max_steps={trainer.max_steps} was reached"
    if (
        not trainer.should_stop
        or epochs < (trainer.min_epochs or 0)
        or steps < (trainer.min_steps or 0)
    ):
        return None
    for callback in trainer.early_stopping_callbacks:
        if (
            callback.stopping_reason_message is not None
            and callback.stopped_epoch == trainer.current_epoch
        ):
            return stopping_reason(callback)
    timers = [callback for callback in trainer.callbacks if isinstance(callback, Timer)]  # type: ignore[attr-defined]
    if any((timer.time_remaining() or 0) <= 0 for timer in timers):
        return "trainer.max_time was over"
    return "a callback stopped it"


def stopping_reason(callback: EarlyStopping) -> str:
    """Return why an EarlyStopping that has stopped did so."""
    if callback.stopping_reason == EarlyStoppingReason.PATIENCE_EXHAUSTED:
        return f"{callback.monitor} no longer improved"
    message = callback.stopping_reason_message or "it stopped"
    return f"EarlyStopping: {message.removesuffix(' Signaling Trainer to stop.')}"
