"""A fit: one Trainer.fit, from runs to their results."""

import logging
import os
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import (
    Callback,
    EarlyStopping,
    ModelCheckpoint,
    ProgressBar,
)
from lightning.pytorch.loggers import Logger
from lightning.pytorch.trainer.states import TrainerStatus

from trialstack.core.errors import (
    UNWRITABLE,
    CannotWrite,
    Diverged,
    Interrupted,
    UserError,
    cannot_write,
    reason,
)
from trialstack.core.sizes import check_limits
from trialstack.data.cache import Datasets
from trialstack.data.datamodule import ImageDataModule
from trialstack.engine.eager import Classifier, hyperparameters
from trialstack.engine.networks import has_own
from trialstack.engine.protocol import Outcome, TrainsTrials
from trialstack.engine.threads import FreeThreads
from trialstack.engine.waiting import Cores
from trialstack.run import tables
from trialstack.run.best_and_last import BestAndLast
from trialstack.run.devices import check_devices, device_name, set_tf32
from trialstack.run.evaluation import Evaluation, evaluate
from trialstack.run.folder import resume_command
from trialstack.run.grouping import divided
from trialstack.run.quiet import is_main_process
from trialstack.run.recorder import Recorder
from trialstack.run.report import Report
from trialstack.run.run import Run
from trialstack.run.source import load_weights
from trialstack.run.stack_checkpoint import StackCheckpoint
from trialstack.run.state import State
from trialstack.run.status import Status
from trialstack.run.timing import Timing
from trialstack.run.trainer import build_trainer, per_epoch

log = logging.getLogger(__name__)

OF_A_TRIAL = (EarlyStopping, ModelCheckpoint)
"""Callbacks that concern one trial; `best.ckpt` and `last.ckpt` are all that a trial of a stack has
of the latter.
"""


class Fit(ABC):
    """Trains runs together. What differs by engine is in the subclasses.

    Args:
        runs: that train.
        observers: callbacks of the Trainer, in the place of the config's progress bars.
        datasets: that are loaded.
        cores: to train on.

    Attributes:
        runs: those that fit into the memory together and can be made.
        left: runs that did not fit with the others, and are left as they were.
    """

    engine: ClassVar[str]

    def __init__(
        self, runs: Sequence[Run], observers: Sequence[Callback], datasets: Datasets, cores: Cores
    ) -> None:
        self.runs = list(runs)
        self.left: list[Run] = []
        self.config = runs[0].config
        self.observers = observers
        self.datasets = datasets
        self.cores = cores
        self.timing = Timing()
        self.began = runs[0].trial.began
        self.reports = {run: Report(run.trial, run.state, self.timing) for run in runs}
        self._concluded: set[Run] = set()

    @property
    def alone(self) -> bool:
        """Whether this is one run, which is not what is left of a stack whose other trials have
        their results.
        """
        return len(self.runs) == 1 and self.runs[0].state.stack is None

    @property
    def states(self) -> list[State]:
        """How far the runs have come."""
        return [run.state for run in self.runs]

    @abstractmethod
    def capacity(self, data: ImageDataModule) -> int:
        """Return how many runs can train together."""

    @abstractmethod
    def module(self, classifiers: Sequence[Classifier], data: ImageDataModule) -> LightningModule:
        """Return what is trained."""

    def trained(self, module: LightningModule) -> TrainsTrials:
        """Return what says how the runs came out."""
        assert isinstance(module, TrainsTrials)
        return module

    @abstractmethod
    def loaders(self, module: LightningModule, data: ImageDataModule) -> dict[str, Any]:
        """Return where Trainer.fit gets its batches from, as its arguments."""

    def checkpoint_callback(self) -> BestAndLast | StackCheckpoint:
        return BestAndLast(self.runs[0].state, self.timing)

    def callbacks(self) -> list[Callback]:
        """Return the config's callbacks that concern all runs."""
        has_bar = not self.observers and self.config.trainer.enable_progress_bar is not False
        return [
            callback
            for callback in self.runs[0].callbacks
            if not isinstance(callback, OF_A_TRIAL)
            and (has_bar or not isinstance(callback, ProgressBar))
        ]

    def recorded_by(self, loggers: Sequence[Logger]) -> Sequence[Logger]:
        """Return the loggers, of these, that get what is recorded of an epoch."""
        return loggers

    def callbacks_of_trials(self) -> list[Callback]:
        """Return the callbacks that concern each run by itself."""
        return [callback for callback in self.runs[0].callbacks if isinstance(callback, OF_A_TRIAL)]

    def checkpoint_file(self) -> Path:
        """Return what Trainer.fit goes on from, if the runs do."""
        return self.runs[0].state.best.last_file

    def outcomes(self) -> Sequence[Outcome]:
        """Return how runs came out that are trained already, by position."""
        return [Outcome()] * len(self.runs)

    def trainer(self, **own: Any) -> Trainer:
        """Return a Trainer of the config's settings, and some of our own."""
        epochs = self.runs[0].state.until
        return build_trainer(self.config.trainer, self.runs[0].folder, max_epochs=epochs, **own)

    def best_classifier(self, index: int, like: Classifier) -> Classifier | None:
        """Return a run's best classifier, None if it has none.

        Args:
            index: place of the run.
            like: one of the first run's network, which may be overwritten.
        """
        return self.runs[index].best_classifier()

    def tested(
        self, best: Classifier, data: ImageDataModule
    ) -> tuple[Evaluation | None, dict[str, float]]:
        """Return what a run's best classifier gives on the test set, and its metrics by their names
        in `result.json`.
        """
        test = evaluate(best, data.test_samples)
        return test, test.metrics

    def finish(self, ended: bool) -> None:  # noqa: B027
        """Write what is left to write after Trainer.fit, whether that has ended or was stopped."""

    def close(self) -> None:  # noqa: B027
        """Remove what nobody needs once every run has its result."""

    def train(self) -> None:
        """Train, test and write everything down; whatever happens, each result.json says it."""
        with self._recorded():
            self.timing.seconds["startup"] = time.perf_counter() - self.began
            set_tf32(self.config.engine.tf32)
            for run in self.runs:
                run.record(engine=self.engine)
            data = self._data()
            taken = len(divided(self.runs, self.capacity(data))[0])
            self.runs, self.left = self.runs[:taken], self.runs[taken:]
            classifiers = self._classifiers(data)
            if not classifiers:
                return
            first = classifiers[0]
            if first.own is None:
                first.check_shapes()
            self._record_what_trains(classifiers, data)
            if is_main_process():
                self._show_what_trains(first)
            if all(state.is_trained for state in self.states):
                self.finish(ended=True)
                outcomes = self.outcomes()
            else:
                module = self.module(classifiers, data)
                del classifiers  # a stack has its own copy of their weights
                with self.timing.measure("fit"):
                    self._fit(module, data)
                outcomes = self.trained(module).outcomes()
            for run, outcome in zip(self.runs, outcomes, strict=True):
                self._record_end(run, outcome)
            if is_main_process():
                self._conclude(first, data)
                self.close()

    def _data(self) -> ImageDataModule:
        """The data, on the device of a Trainer like the one that will train: that one is made when
        the loggers and callbacks are, which are for runs that fit into the device's memory.
        """
        check_devices(self.config.trainer.accelerator, self.config.trainer.devices)
        trainer = self.trainer(logger=False, enable_checkpointing=False)
        with self.timing.measure("data"):
            data = self.datasets.load(self.config.data, self.config.seed, trainer)
        minibatches = -(-len(data.train_samples.labels) // data.batch_size)
        check_limits(self.config.trainer, minibatches, len(data.val_dataloader()))
        return data

    def _classifiers(self, data: ImageDataModule) -> list[Classifier]:
        """The runs' classifiers; of several runs, one that has none has failed."""
        classifiers, alone = [], self.alone
        for run in self.runs[:]:
            try:
                classifier = Classifier(**hyperparameters(run.config, data))
                if run.source is not None and run.state.checkpoint is None:
                    load_weights(classifier, run.source)
                classifiers.append(classifier)
            except UserError as error:
                if alone:
                    raise
                run.record(status=Status.FAILED, reason=str(error))
                run.write_result(self.timing.seconds)
                self.runs.remove(run)
        return classifiers

    def _record_what_trains(self, classifiers: Sequence[Classifier], data: ImageDataModule) -> None:
        device = data.train_samples.labels.device
        for run, classifier in zip(self.runs, classifiers, strict=True):
            stack = run.state.stack
            run.record(
                stack_size=len(self.runs) if stack is None else stack.size,
                parameters=sum(p.numel() for p in classifier.network.parameters()),
                device=device_name(device),
                host=socket.gethostname(),
                job=run.trial.job,
                tf32=self.config.engine.tf32 and device.type == "cuda",
                data={"name": data.dataset, "checksums": data.checksums},
            )

    def _show_what_trains(self, first: Classifier) -> None:
        report = self.reports[self.runs[0]]
        report.show_config()
        log.info("%s\n", tables.model_summary(first))
        if first.own is not None:
            of_its_own = has_own(first.model_group, "configure_optimizers")
            unused = "optimizer.*, schedule.* and loss.*" if of_its_own else "loss.*"
            target = first.model_group["_target_"]
            log.info("%s trains by its own steps: %s are not used\n", target, unused)
        if self.alone:
            report.open_loggers(first)
        else:
            log.info("%d trials in one stack; the config above is the first one's", len(self.runs))

    @contextmanager
    def _recorded(self) -> Iterator[None]:
        """Write every run's result at the end, however that comes.

        Raises:
            UserError: a file cannot be written.
            Interrupted: Ctrl-C, SIGTERM or SIGHUP.
        """
        try:
            yield
        except KeyboardInterrupt:
            self._record_failure(Status.INTERRUPTED, "by Ctrl-C, SIGTERM or SIGHUP")
            raise Interrupted(f"{self._continues()} continues") from None
        except OSError as error:
            if error.errno not in UNWRITABLE:
                self._record_failure(Status.FAILED, reason(error))
                raise
            text = cannot_write(error, self.runs[0].folder)
            self._record_failure(Status.INTERRUPTED, text)
            raise CannotWrite(text, self._continues()) from error
        except Exception as error:
            self._record_failure(Status.FAILED, reason(error))
            raise
        except SystemExit:  # of a scheduler, which has the job begin again
            self._record_failure(Status.INTERRUPTED, "the process was ended")
            raise
        finally:
            for run in self._unfinished():
                run.write_result(self.timing.seconds)
                self.reports[run].end_loggers(run.result.status)

    def _unfinished(self) -> list[Run]:
        return [run for run in self.runs if run not in self._concluded]

    def _continues(self) -> str:
        if self.alone:
            return f"`{resume_command(self.runs[0].folder)}`"
        return f"training the same {len(self.runs)} trials again"

    def _record_failure(self, status: Status, reason: str) -> None:
        for run in self._unfinished():
            run.record(status=status, reason=reason)

    def _all_callbacks(self, loggers: Sequence[Logger]) -> list[Callback]:
        """The Trainer's, in the order in which they are called at the end of an epoch: Lightning
        puts those last that are a Checkpoint.
        """
        return [
            self.timing,
            FreeThreads(self.cores),
            *per_epoch(self.callbacks(), self.config.trainer.max_time),
            *self.observers,
            Recorder(self.states, self.recorded_by(loggers), self.timing),
            *self.callbacks_of_trials(),
            self.checkpoint_callback(),
        ]

    def _fit(self, module: LightningModule, data: ImageDataModule) -> None:
        loggers = self.reports[self.runs[0]].loggers
        trainer = self.trainer(logger=loggers, callbacks=self._all_callbacks(loggers))
        data.trainer = trainer
        resumed = self.runs[0].state.checkpoint is not None
        checkpoint = self.checkpoint_file() if resumed else None
        if self.runs[0].trial.resume:
            begin = "the beginning: there is no checkpoint yet"
            log.info("resuming from %s", os.path.relpath(checkpoint) if checkpoint else begin)
        ended = True
        try:
            trainer.fit(
                module, **self.loaders(module, data), ckpt_path=checkpoint, weights_only=True
            )
        except Diverged:
            pass  # all trials; the module says when
        except MisconfigurationException as error:
            ended = False
            raise UserError(
                f"the Trainer cannot train like this: {' '.join(str(error).split())}"
            ) from error
        except SystemExit:  # what Lightning makes of Ctrl-C and SIGTERM
            ended = False
            if trainer.state.status == TrainerStatus.INTERRUPTED:
                raise KeyboardInterrupt from None
            raise
        except BaseException:
            ended = False
            raise
        finally:
            self.finish(ended)

    def _record_end(self, run: Run, outcome: Outcome) -> None:
        """Record how a run ended that was not interrupted."""
        state = run.state
        if outcome.diverged is not None:
            run.record(status=Status.DIVERGED, reason=str(Diverged(outcome.diverged)))
        elif state.ended is not None:
            epochs = f"{len(state.history.rows)} of {state.max_epochs}"
            run.record(
                status=Status.COMPLETED, reason=f"stopped after epoch {epochs}: {state.ended}"
            )
        elif state.until < state.max_epochs:
            run.record(status=Status.STOPPED, reason=f"at a rung (epoch {state.until})")
        else:
            run.record(status=Status.COMPLETED)

    def _conclude(self, first: Classifier, data: ImageDataModule) -> None:
        for index, run in enumerate(self.runs):
            with run.trial.logged():
                try:
                    self._conclude_run(index, first, data)
                except Exception as error:
                    if self.alone or isinstance(error, OSError):
                        raise
                    run.record(status=Status.FAILED, reason=reason(error))
                    log.exception("the trial has failed after its training")
                    self.reports[run].end_loggers(Status.FAILED)
                log.info("%s: %s", run.result.status, os.path.relpath(run.folder))
            run.write_result(self.timing.seconds)
            self._concluded.add(run)
        where = self.timing.where_it_went(time.perf_counter() - self.began)
        if where is not None:
            log.info(where)

    def _conclude_run(self, index: int, first: Classifier, data: ImageDataModule) -> None:
        """Test a run's best weights, and show and record what came out."""
        run = self.runs[index]
        report = self.reports[run]
        if not self.alone:
            report.open_loggers(first if index == 0 else None)
            report.show_epochs(run.result.stack_size)
            if run.state.history.rows:
                run.state.history.write()
        report.show_end(run.result)
        best, test = self.best_classifier(index, first), None
        tested: dict[str, float] = {}
        if best is not None and run.config.test and run.result.status != Status.STOPPED:
            with self.timing.measure("test"):
                test, tested = self.tested(best, data)
            run.record(metrics=tested)
        images = data.test_samples.images if self.alone and run.trial.pictured else None
        report.conclude(run.result, tested, test, best, images)
