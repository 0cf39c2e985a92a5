"""What a run shows: in its log, to its loggers, and in pictures."""

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property

from lightning.pytorch.loggers import Logger
from torch import Tensor

from trialstack.core import layout
from trialstack.core.build import build_all
from trialstack.core.objective import rounded
from trialstack.core.yaml_dump import to_yaml
from trialstack.engine.eager import Classifier
from trialstack.run import figures, loggers, tables, tensorboard
from trialstack.run.evaluation import Evaluation
from trialstack.run.history import line
from trialstack.run.result import Result
from trialstack.run.state import State
from trialstack.run.status import Status
from trialstack.run.timing import Timing
from trialstack.run.trial import Trial

log = logging.getLogger(__name__)


class Report:
    """Shows a trial.

    Args:
        trial: the trial.
        state: how far it has come.
        timing: gets the time that this takes.

    Attributes:
        loggers: of the config, once they are opened.
    """

    def __init__(self, trial: Trial, state: State, timing: Timing) -> None:
        self.trial = trial
        self.state = state
        self.timing = timing
        self.loggers: Sequence[Logger] = []

    @cached_property
    def config_text(self) -> str:
        """The config as YAML."""
        return to_yaml(self.trial.config.values).rstrip()

    def show_config(self) -> None:
        """Show what the config has other than the defaults, and with `hydra.verbose` all of it."""
        changes = self.trial.overrides if self.trial.changes is None else self.trial.changes
        log.info("%s\n", tables.paragraph("config:", changes or ["the defaults"]))
        if log.isEnabledFor(logging.DEBUG):
            log.debug("%s\n", self.config_text)

    def open_loggers(self, classifier: Classifier | None) -> None:
        """Make the config's loggers, and give them hyperparameters, config and the epochs that are
        there; `fast_dev_run` has none, as in Lightning.

        Those that write files begin anew: whatever an earlier process wrote before it was killed,
        curves have each epoch once.

        Args:
            classifier: whose graph they get, None for no graph.
        """
        if self.trial.config.trainer.fast_dev_run:
            return
        with self.timing.measure("logging"):
            self.loggers = build_all("logger", self.trial.config.values["logger"], Logger)  # type: ignore[type-abstract]
            loggers.begin_anew(self.loggers, self.trial.folder)
            self.state.history.log(self.loggers, self.state.history.rows)
            tensorboard.log_setup(
                self.loggers, classifier, self.trial.config.values, self.config_text
            )

    def show_epochs(self, stack_size: int) -> None:
        """Show, at its end, what a trial of a stack would have shown while it trained."""
        epochs = self.state.epochs
        after = f", resumed after epoch {epochs}" if epochs else ""
        self.show_config()
        log.info("one of %d trials in a stack%s\n", stack_size, after)
        for row in self.state.history.rows:
            log.info(line([row], self.state.max_epochs))

    def show_end(self, result: Result) -> None:
        """Show why the training ended, where that was not its last epoch."""
        if result.status == Status.DIVERGED:
            log.warning("diverged: %s; try a smaller optimizer.lr", result.reason)
        elif result.reason is not None:
            log.info(result.reason)

    def conclude(
        self,
        result: Result,
        tested: Mapping[str, float],
        test: Evaluation | None,
        best: Classifier | None,
        test_images: Tensor | None,
    ) -> None:
        """Show what came out, and end the loggers with it.

        Args:
            result: of the run.
            tested: metrics of the best epoch on the test set; none if it was not tested.
            test: the classes in detail, None of what is no classifier.
            best: with the best weights, None if there are none.
            test_images: normalized, [n, channels, height, width], for pictures; None for none.
        """
        rows, best_epoch = self.state.history.rows, self.state.best.epoch
        step = int(rows[-1]["step"]) if rows else 0
        with self.timing.measure("logging"):
            tensorboard.conclude(self.loggers, step, tested, result.status == Status.COMPLETED)
            if best is not None and best.own is None and test_images is not None:
                tensorboard.add_pictures(self.loggers, best, test, test_images, step)
            if rows and test_images is not None:
                figures.save(
                    figures.history_figure(rows, best_epoch, self.trial.folder.name),
                    self.trial.folder / layout.CURVES,
                )
                log.info("\n%s\n", tables.results_table(rows, best_epoch, tested))
            elif tested:
                text = "  ".join(f"{name} {rounded(value)}" for name, value in tested.items())
                log.info("best epoch %s: %s", best_epoch, text)
        self.end_loggers(result.status)

    def end_loggers(self, status: Status) -> None:
        """End the loggers that are open, with how the run came out."""
        ending, self.loggers = self.loggers, []
        with self.timing.measure("logging"):
            loggers.end(ending, status, self.state.best.score)
