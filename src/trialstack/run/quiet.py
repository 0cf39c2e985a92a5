"""Lightning's messages off the terminal."""

import logging
import warnings

from lightning.pytorch.utilities import rank_zero_only

log = logging.getLogger(__name__)


def is_main_process() -> bool:
    """Tell whether this is the process of a distributed run that prints and writes."""
    return getattr(rank_zero_only, "rank", 0) == 0


def quiet() -> None:
    """Keep Lightning's tips, hints and banners off the terminal (`hydra.verbose=trialstack` shows
    them).
    """
    lightning = [
        logging.getLogger(name) for name in ("lightning", "lightning.pytorch", "lightning.fabric")
    ]
    if (
        logging.getLogger().handlers
    ):  # to which Lightning's messages go as well: once, and into train.log
        for logger in lightning:
            logger.handlers.clear()
            logger.propagate = True
    if log.isEnabledFor(logging.DEBUG):
        return
    for logger in lightning:
        logger.setLevel(logging.WARNING)
    # somebody has asked for what it says
    logging.getLogger("lightning.pytorch.profilers").setLevel(logging.INFO)
    if not is_main_process():
        logging.getLogger("trialstack").setLevel(logging.WARNING)
    for message in (
        "It is recommended to use `self.log",  # EpochMetrics has already synchronised what it logs
        # and reads it once an epoch, whatever log_every_n_steps is
        "The number of training batches",
        "`isinstance\\(treespec, LeafSpec\\)` is deprecated",
        # a trial's callbacks are loaded from its own checkpoint
        "Be aware that when using `ckpt_path`",
        "`training_step` returned `None`",
        "You passed in a `val_dataloader` but have no `validation_step`",  # the data has one always
        "The `srun` command is available on your system but is not used",  # on purpose
    ):
        warnings.filterwarnings("ignore", message=message)
