"""A run: one trial on its way to its result, whichever engine trains it."""

import itertools
import logging
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger

from trialstack.core import layout
from trialstack.core.build import build_all, check_all
from trialstack.engine.eager import Classifier
from trialstack.run.checkpoints import read_checkpoint
from trialstack.run.folder import read_config, write_config
from trialstack.run.metrics_csv import metrics
from trialstack.run.quiet import is_main_process
from trialstack.run.restore import load_classifier
from trialstack.run.result import Result, git_commit, versions
from trialstack.run.source import take_over
from trialstack.run.state import State
from trialstack.run.status import Status
from trialstack.run.trial import Trial

log = logging.getLogger(__name__)


class Run:
    """What is trained, how far it has come, and what is known of its result.

    Attributes:
        trial: what is trained.
        callbacks: of its config.
        state: how far it has come.
        source: folder of the run that it begins with; None if it begins anew.
        result: what is known so far.
    """

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.folder = trial.folder
        self.config = trial.config
        self.callbacks = build_all("callbacks", self.config.values["callbacks"], Callback)
        check_all("logger", self.config.values["logger"], Logger)
        self.state = State(trial, self.callbacks)
        self.source = None if self.config.source is None else Path(str(self.config.source))
        self.result = Result(
            self.folder.absolute(),
            versions=versions(),
            git=git_commit(),
            overrides=list(trial.overrides),
            origin=None if self.source is None else str(self.source),
        )

    def resume(self) -> bool:
        """Load what there is to go on from, and tell whether there is anything left to do.

        Raises:
            UserError: the checkpoint is damaged or not ours, or has more epochs than
                `trainer.max_epochs`.
        """
        if not self.trial.resume:
            return True
        result, last_file = Result.read(self.folder), self.state.best.last_file
        if self.config.continues and self.source is not None and not last_file.exists():
            take_over(self.source, self.folder)
        if last_file.exists():
            self.state.go_on(read_checkpoint(last_file))
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
            self.state.ended = None
            saved.trainer = self.config.trainer.values
            write_config(self.folder, saved)
        return True

    def forget_derived(self) -> None:
        """Remove what `evaluate.py` and `export.py` have written: when the run trains on, it is of
        other weights.
        """
        for file in (*itertools.chain(*layout.EVALUATIONS.values()), *layout.EXPORTED.values()):
            (self.folder / file).unlink(missing_ok=True)

    def best_classifier(self) -> Classifier | None:
        """Return the classifier with the best weights that there are; None if no epoch was
        finished.
        """
        for checkpoint in (self.state.best.best_file, self.state.best.last_file):
            if checkpoint.exists():
                return load_classifier(checkpoint)
        return None

    def record(self, **known: Any) -> None:
        """Add to what is known of the result.

        Args:
            **known: attributes of `Result`.
        """
        self.result = replace(self.result, **known)

    def write_result(self, seconds: dict[str, float]) -> None:
        """Write what is known, with the metrics of the best epoch.

        Args:
            seconds: of this session, by part.
        """
        if not is_main_process():
            return
        rows, best = self.state.history.rows, self.state.best
        shown = next((row for row in rows if row["epoch"] == best.epoch), rows[-1] if rows else {})
        seconds = seconds | {"total": time.perf_counter() - self.trial.began}
        if self.state.earlier:
            seconds["earlier"] = self.state.earlier
        self.record(
            metrics={name: shown[name] for name in metrics([shown])} | self.result.metrics,
            objective=best.score,
            best_epoch=best.epoch,
            epochs=len(rows),
            seconds={part: round(value, 3) for part, value in seconds.items()},
        )
        try:
            self.result.write(self.folder)
        except OSError as error:
            log.error("result.json cannot be written: %s", error)
