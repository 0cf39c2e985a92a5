"""A run: one trial, its folder, and what it leaves there whichever engine trains it."""

import logging
import os
import time
from functools import cached_property
from typing import Any

from lightning.pytorch.callbacks import Callback, EarlyStopping
from lightning.pytorch.loggers import Logger

from trialstack.core import layout
from trialstack.core.build import build_all, check_all
from trialstack.core.errors import UserError
from trialstack.core.objective import rounded
from trialstack.core.yaml_dump import to_yaml
from trialstack.data.datamodule import ImageDataModule
from trialstack.engine.eager import Classifier
from trialstack.run import figures, loggers, tables, tensorboard
from trialstack.run.checkpoints import Best, read_checkpoint
from trialstack.run.evaluation import evaluate
from trialstack.run.folder import read_config, write_config
from trialstack.run.history import History, line
from trialstack.run.metrics_csv import METRICS
from trialstack.run.quiet import is_main_process
from trialstack.run.restore import load_classifier
from trialstack.run.result import Result, git_commit, versions
from trialstack.run.stack_checkpoint import StackFile
from trialstack.run.status import Status
from trialstack.run.timing import Account
from trialstack.run.trial import Trial

log = logging.getLogger(__name__)


class Run:
    """A trial on its way to its result.

    Attributes:
        config: the trial's.
        account: of the time; shared by the runs of a stack.
        checkpoint: to go on from, None for a start from the beginning.
        stack: whose checkpoint that is, None if it is the trial's own.
        position: in that stack.
        ended: why the training ended before its last epoch, None if it did not.
        callbacks: of the config.
        loggers: of the config, once they are opened.
        concluded: everything is written.
    """

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.folder = trial.folder
        self.config = trial.config
        self.tested: dict[str, float] = {}
        self.history = History(self.folder)
        self.best = Best(self.folder, self.config.objective)
        self.account = Account()
        self.checkpoint: dict[str, Any] | None = None
        self.stack: StackFile | None = None
        self.position = 0
        self.ended: str | None = None
        self.concluded = False
        self._earlier = 0.0
        self.callbacks = build_all("callbacks", self.config.values["callbacks"], Callback)
        check_all("logger", self.config.values["logger"], Logger)
        self.loggers: list[Logger] = []
        self.result = Result(versions=versions(), git=git_commit(), overrides=list(trial.overrides))

    def resume(self) -> bool:
        """Load what there is to go on from, and tell whether there is anything left to do.

        Raises:
            UserError: the checkpoint is damaged or not ours, or has more epochs than
                `trainer.max_epochs`.
        """
        if not self.trial.resume:
            return True
        result = Result.read(self.folder)
        if self.best.last.exists():
            self.go_on(read_checkpoint(self.best.last))
        if not is_main_process():
            return True
        saved = read_config(self.folder)
        changed = saved.trainer != self.config.trainer.values
        if result is not None and result.status == Status.COMPLETED and not changed:
            log.info(
                "%s is complete; trainer.max_epochs=N makes it longer", os.path.relpath(self.folder)
            )
            self.result = result
            return False
        if changed:
            self.ended = None
            saved.trainer = self.config.trainer.values
            write_config(self.folder, saved)
        return True

    def go_on(
        self, checkpoint: dict[str, Any], stack: StackFile | None = None, position: int = 0
    ) -> None:
        """Take what there is from `checkpoint`: at once, so that result.json has it, however soon
        this ends.

        Args:
            checkpoint: the run's, or what a stack's checkpoint has of it besides weights.
            stack: whose it is in the latter case.
            position: in that stack.

        Raises:
            UserError: it has more epochs than `trainer.max_epochs`.
        """
        self.checkpoint, self.stack, self.position = checkpoint, stack, position
        self.history.load_state_dict(checkpoint["callbacks"]["History"])
        self.best.load_state_dict(checkpoint["callbacks"]["BestAndLast"])
        self.ended = checkpoint["callbacks"]["BestAndLast"]["ended"]
        for callback in self.callbacks:
            if (
                isinstance(callback, EarlyStopping)
                and callback.state_key in checkpoint["callbacks"]
            ):
                callback.load_state_dict(checkpoint["callbacks"][callback.state_key])
        self._earlier = self.history.spent
        max_epochs = self.config.trainer.max_epochs
        if self.epochs > max_epochs:
            raise UserError(
                f"trainer.max_epochs >= {self.epochs} must hold (epochs that the run has "
                f"finished), got {max_epochs}"
            )

    def forget_evaluation(self) -> None:
        """Remove what `evaluate.py` has written: when the run trains on, it is of other weights."""
        for file in (layout.EVALUATION, layout.EVALUATION_PICTURE):
            (self.folder / file).unlink(missing_ok=True)

    @cached_property
    def config_text(self) -> str:
        """The config as YAML."""
        return to_yaml(self.config.values).rstrip()

    def show_config(self) -> None:
        """Show what the config has other than the defaults, and with `hydra.verbose` all of it."""
        changes = self.trial.overrides if self.trial.changes is None else self.trial.changes
        log.info("%s\n", tables.paragraph("config:", changes or ["the defaults"]))
        if log.isEnabledFor(logging.DEBUG):
            log.debug("%s\n", self.config_text)

    @property
    def epochs(self) -> int:
        """Finished ones of the checkpoint."""
        return 0 if self.checkpoint is None else int(self.checkpoint["epoch"]) + 1

    @property
    def is_trained(self) -> bool:
        """Whether the checkpoint is of the last epoch: the run was killed before it had its
        result.
        """
        return self.ended is not None or self.epochs == self.config.trainer.max_epochs

    def open_loggers(self) -> None:
        """Make the config's loggers, and give them the epochs that are there; `fast_dev_run` has
        none, as in Lightning.

        They begin anew: whatever an earlier process wrote before it was killed, curves have each
        epoch once.
        """
        if self.config.trainer.fast_dev_run:
            return
        with self.account.measure("logging"):
            self.loggers = build_all("logger", self.config.values["logger"], Logger)  # type: ignore[type-abstract]
            tensorboard.begin_anew(self.loggers, self.folder)
            for row in self.history.rows:
                self.history.log(self.loggers, row)

    def describe(self, classifier: Classifier | None) -> None:
        """Write hyperparameters, config and, of `classifier`, the model's graph to the loggers."""
        with self.account.measure("logging"):
            tensorboard.describe(self.loggers, classifier, self.config.values, self.config_text)

    def tell(self, stack_size: int) -> None:
        """Write down, at its end, what a trial of a stack would have written while it trained."""
        after = f", resumed after epoch {self.epochs}" if self.epochs else ""
        self.show_config()
        log.info("one of %d trials in a stack%s\n", stack_size, after)
        for row in self.history.rows:
            log.info(line([row], self.config.trainer.max_epochs))

    def conclude(self, data: ImageDataModule, best: Classifier | None, pictures: bool) -> None:
        """Test the classifier with the best weights, and show and write what came out."""
        if self.result.status == Status.DIVERGED:
            log.warning("diverged: %s; try a smaller optimizer.lr", self.result.reason)
        elif self.result.reason is not None:
            log.info(self.result.reason)
        with self.account.measure("test"):
            test = (
                evaluate(best, data.test_samples) if best is not None and self.config.test else None
            )
        rows, images = self.history.rows, data.test_samples.images
        if test is not None:
            self.tested = {"test/loss": test.loss, "test/acc": test.accuracy}
        with self.account.measure("logging"):
            step = int(rows[-1]["step"]) if rows else 0
            tensorboard.conclude(
                self.loggers, step, self.tested, self.result.status == Status.COMPLETED
            )
            if best is not None and pictures:
                tensorboard.add_pictures(self.loggers, best, test, images, step)
            if rows and pictures:
                figures.save(
                    figures.history_figure(rows, self.best.epoch, self.folder.name),
                    self.folder / layout.CURVES,
                )
                log.info("\n%s\n", tables.results_table(rows, self.best.epoch, test))
            elif test is not None:
                tested = f"test/loss {rounded(test.loss)}  test/acc {rounded(test.accuracy)}"
                log.info("best epoch %s: %s", self.best.epoch, tested)
        self.end_loggers("finished")

    def end_loggers(self, status: str) -> None:
        """End the loggers that are open."""
        ending, self.loggers = self.loggers, []
        with self.account.measure("logging"):
            loggers.end(ending, status)

    def best_classifier(self) -> Classifier | None:
        """Return the classifier with the best weights that there are; None if no epoch was
        finished.
        """
        for checkpoint in (self.best.best, self.best.last):
            if checkpoint.exists():
                return load_classifier(checkpoint)
        return None

    def fail(self, status: Status, reason: str) -> None:
        self.result.status, self.result.reason = status, reason

    def write_result(self) -> None:
        if not is_main_process():
            return
        rows, best = self.history.rows, self.best
        shown = next((row for row in rows if row["epoch"] == best.epoch), rows[-1] if rows else {})
        self.result.metrics = {name: shown[name] for name in METRICS if name in shown} | self.tested
        self.result.objective, self.result.best_epoch = best.score, best.epoch
        self.result.epochs = len(rows)
        seconds = self.account.seconds | {"total": time.perf_counter() - self.trial.began}
        if self._earlier:
            seconds["earlier"] = self._earlier
        self.result.seconds = {part: round(value, 3) for part, value in seconds.items()}
        try:
            self.result.write(self.folder)
        except OSError as error:
            log.error("result.json cannot be written: %s", error)
