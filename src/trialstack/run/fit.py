"""Fits: one Trainer.fit each, from runs' configs to their results, on either engine."""

import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import (
    Callback,
    EarlyStopping,
    LearningRateMonitor,
    ModelCheckpoint,
    ProgressBar,
    Timer,
)
from lightning.pytorch.callbacks.timer import Interval
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
from trialstack.core.sizes import check_limits, epoch_steps
from trialstack.data.cache import Datasets
from trialstack.data.datamodule import ImageDataModule
from trialstack.engine.capacity import trials_that_fit
from trialstack.engine.chunks import ShuffledChunks
from trialstack.engine.eager import Classifier, hyperparameters
from trialstack.engine.stacked import StackedClassifier
from trialstack.engine.threads import FreeThreads
from trialstack.engine.waiting import Cores
from trialstack.run import tables
from trialstack.run.checkpoints import BestAndLast, WholeFiles
from trialstack.run.devices import check_devices, device_name
from trialstack.run.folder import resume_command
from trialstack.run.grouping import divided
from trialstack.run.history import Recorder
from trialstack.run.run import Run
from trialstack.run.stack_checkpoint import StackCheckpoint, StackFile
from trialstack.run.status import Status
from trialstack.run.timing import Account
from trialstack.run.trial_ends import TrialEnds

log = logging.getLogger(__name__)

_OF_A_TRIAL = (EarlyStopping, ModelCheckpoint)
"""Callbacks that concern one trial; `best.ckpt` and `last.ckpt` are all that a trial of a stack has
of the latter.
"""


class Fit:
    """One Trainer.fit, from its runs' configs to their results. What differs by engine is in the
    subclasses.

    Attributes:
        runs: that train.
        left: runs that did not fit into the memory with the others, and are left as they were.
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
        self.account = Account()
        self.began = self.runs[0].trial.began
        for run in runs:
            run.account = self.account
            run.result.engine = self.engine

    @property
    def alone(self) -> bool:
        """Whether this is one run, which is not what is left of a stack whose other trials have
        their results.
        """
        return len(self.runs) == 1 and self.runs[0].stack is None

    def capacity(self, data: ImageDataModule) -> int:
        """Return how many runs can train together."""
        return 1

    def module(
        self, classifiers: Sequence[Classifier], data: ImageDataModule
    ) -> Classifier | StackedClassifier:
        """Return what is trained."""
        raise NotImplementedError

    def loaders(self, module: LightningModule, data: ImageDataModule) -> dict[str, Any]:
        """Return where Trainer.fit gets its batches from, as its arguments."""
        raise NotImplementedError

    def checkpoint_callback(self) -> BestAndLast | StackCheckpoint:
        return BestAndLast(self.runs[0], self.account)

    def callbacks(self) -> list[Callback]:
        """Return the config's callbacks that concern all runs."""
        return [
            callback
            for callback in self.runs[0].callbacks
            if not isinstance(callback, _OF_A_TRIAL)
            and not (self.observers and isinstance(callback, ProgressBar))
        ]

    def callbacks_of_trials(self) -> list[Callback]:
        """Return the callbacks that concern each run by itself."""
        return [
            callback for callback in self.runs[0].callbacks if isinstance(callback, _OF_A_TRIAL)
        ]

    def checkpoint_file(self) -> Path:
        """Return what Trainer.fit goes on from, if the runs do."""
        return self.runs[0].best.last

    def diverged(self) -> dict[int, int]:
        """Return the epochs in which runs diverged that are trained already, by position."""
        return {}

    def trainer_settings(self) -> dict[str, Any]:
        return dict(self.config.trainer.values)

    def best_classifier(self, index: int, like: Classifier) -> Classifier | None:
        """Return a run's best classifier, None if it has none.

        Args:
            index: place of the run.
            like: one of the same network, which may be overwritten.
        """
        return self.runs[index].best_classifier()

    def finish(self, ended: bool) -> None:
        """Write what is left to write after Trainer.fit, whether that has ended or was stopped."""

    def close(self) -> None:
        """Remove what nobody needs once every run has its result."""

    def train(self) -> None:
        """Train, test and write everything down; whatever happens, each result.json says it."""
        with self._recorded():
            self.account.seconds["startup"] = time.perf_counter() - self.began
            trainer = self._trainer()
            with self.account.measure("data"):
                data = self.datasets.load(self.config.data, self.config.seed, trainer)
            minibatches = -(-len(data.train_samples.labels) // data.batch_size)
            check_limits(self.config.trainer, minibatches, len(data.val_dataloader()))
            self._leave(self.capacity(data))
            classifiers = self._classifiers(data)
            if not classifiers:
                return
            first = classifiers[0]
            first.check_shapes()
            for run in self.runs:
                run.result.stack_size = len(self.runs) if run.stack is None else run.stack.size
                run.result.parameters = sum(p.numel() for p in first.network.parameters())
                run.result.device = device_name(trainer.strategy.root_device)
                run.result.data = {"name": data.dataset, "checksums": data.checksums}
            if trainer.is_global_zero:
                self._describe(first)
            if all(run.is_trained for run in self.runs):
                self.finish(ended=True)
                diverged = self.diverged()
            else:
                module = self.module(classifiers, data)
                del classifiers  # a stack has its own copy of their weights
                with self.account.measure("fit"):
                    self._fit(trainer, module, data)
                diverged = module.diverged
            for index, run in enumerate(self.runs):
                self._judge(run, diverged.get(index))
            if trainer.is_global_zero:
                self._conclude(first, data)
                self.close()

    def _leave(self, capacity: int) -> None:
        """Take no more runs than `capacity`, and not many fewer than will be left for the next
        fit.
        """
        taken = len(divided(self.runs, capacity)[0])
        self.left = self.runs[taken:]
        del self.runs[taken:]  # the list itself: callbacks have it

    def _classifiers(self, data: ImageDataModule) -> list[Classifier]:
        """The runs' classifiers; of several runs, one that has none has failed."""
        assert data.spec is not None
        classifiers, alone = [], self.alone
        for run in self.runs[:]:
            try:
                classifiers.append(Classifier(**hyperparameters(run.config, data.spec)))
            except UserError as error:
                if alone:
                    raise
                run.fail(Status.FAILED, str(error))
                run.write_result()
                self.runs.remove(run)
        return classifiers

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
            self._fail(Status.INTERRUPTED, "by Ctrl-C, SIGTERM or SIGHUP")
            raise Interrupted(f"{self._continues()} continues") from None
        except OSError as error:
            if error.errno not in UNWRITABLE:
                self._fail(Status.FAILED, reason(error))
                raise
            text = cannot_write(error, self.runs[0].folder)
            self._fail(Status.INTERRUPTED, text)
            raise CannotWrite(text, self._continues()) from error
        except Exception as error:
            self._fail(Status.FAILED, reason(error))
            raise
        finally:
            for run in self.runs:
                if not run.concluded:
                    run.write_result()
                    run.end_loggers("failed")

    def _continues(self) -> str:
        if self.alone:
            return f"`{resume_command(self.runs[0].folder)}`"
        return f"training the same {len(self.runs)} trials again"

    def _fail(self, status: Status, reason: str) -> None:
        for run in self.runs:
            if not run.concluded:
                run.fail(status, reason)

    def _trainer(self) -> Trainer:
        settings = self.trainer_settings()
        check_devices(self.config.trainer.accelerator, self.config.trainer.devices)
        callbacks = self.callbacks()
        defaults = {
            "enable_progress_bar": any(isinstance(callback, ProgressBar) for callback in callbacks),
            "enable_model_summary": False,  # tables.model_summary prints one
            "num_sanity_val_steps": 0,
            "use_distributed_sampler": False,  # minibatches are shared out by ShuffledMinibatches
        }
        settings["plugins"] = [WholeFiles(), *_listed(settings.get("plugins"))]
        settings.pop("max_time", None)
        try:
            if self.config.trainer.max_time is not None:
                callbacks.append(Timer(self.config.trainer.max_time, verbose=False))
            for callback in callbacks:
                if isinstance(
                    callback, Timer
                ):  # it would stop within an epoch, which cannot be resumed
                    callback._interval = Interval.epoch
            return Trainer(
                **{**defaults, **settings},
                default_root_dir=self.runs[0].folder,
                logger=False,
                callbacks=[
                    self.account,
                    FreeThreads(self.cores),
                    *callbacks,
                    *self.observers,
                    Recorder(self.runs, self.account),
                ],
            )
        except (MisconfigurationException, ValueError, TypeError, RuntimeError) as error:
            raise UserError(
                f"trainer: {str(error).splitlines()[0]}; see conf/trainer/ for what works"
            ) from error

    def _describe(self, first: Classifier) -> None:
        """Show what is trained."""
        self.runs[0].show_config()
        log.info("%s\n", tables.model_summary(first))
        if self.alone:
            self.runs[0].open_loggers()
            self.runs[0].describe(first)
        else:
            log.info("%d trials in one stack; the config above is the first one's", len(self.runs))

    def _fit(
        self, trainer: Trainer, module: Classifier | StackedClassifier, data: ImageDataModule
    ) -> None:
        trainer.loggers = self.runs[0].loggers
        trainer.callbacks += [*self.callbacks_of_trials(), self.checkpoint_callback()]  # type: ignore[attr-defined]
        checkpoint = self.checkpoint_file() if self.runs[0].checkpoint is not None else None
        if self.runs[0].trial.resume:
            begin = (
                os.path.relpath(checkpoint)
                if checkpoint
                else "the beginning: there is no checkpoint yet"
            )
            log.info("resuming from %s", begin)
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

    def _judge(self, run: Run, diverged: int | None) -> None:
        """Decide how a run that was not interrupted ended."""
        if diverged is not None:
            run.result.status, run.result.reason = Status.DIVERGED, str(Diverged(diverged))
            return
        run.result.status = Status.COMPLETED
        if run.ended is not None:
            epochs = self.config.trainer.max_epochs
            run.result.reason = (
                f"stopped after epoch {len(run.history.rows)} of {epochs}: {run.ended}"
            )

    def _conclude(self, first: Classifier, data: ImageDataModule) -> None:
        for index, run in enumerate(self.runs):
            with run.trial.logged():
                try:
                    if not self.alone:
                        run.open_loggers()
                        run.describe(first if run is self.runs[0] else None)
                        run.tell(run.result.stack_size)
                    run.conclude(data, self.best_classifier(index, first), pictures=self.alone)
                except Exception as error:
                    if self.alone or isinstance(error, OSError):
                        raise
                    run.fail(Status.FAILED, reason(error))
                    log.exception("the trial has failed after its training")
                    run.end_loggers("failed")
                log.info("%s: %s", run.result.status, os.path.relpath(run.folder))
            run.write_result()
            run.concluded = True
        where = self.account.describe(time.perf_counter() - self.began)
        if where is not None:
            log.info(where)


def _listed(asked: Any) -> list[Any]:
    """One, several or none as a list, as the Trainer takes them."""
    return asked if isinstance(asked, list) else [asked] if asked is not None else []


class EagerFit(Fit):
    """One run on plain Lightning."""

    engine = "eager"

    def module(self, classifiers: Sequence[Classifier], data: ImageDataModule) -> Classifier:
        return classifiers[0]

    def loaders(self, module: LightningModule, data: ImageDataModule) -> dict[str, Any]:
        return {"datamodule": data}


class StackedFit(Fit):
    """Several runs, or one, as a stack."""

    engine = "stacked"

    stack_checkpoint: StackCheckpoint | None = None

    def capacity(self, data: ImageDataModule) -> int:
        """As many as `engine.max_stack` allows or the memory holds; a stack that goes on stays as
        it was.
        """
        if self.stack is not None:
            return len(self.runs)
        return trials_that_fit([run.config for run in self.runs], data)

    def trainer_settings(self) -> dict[str, Any]:
        """All chunks of an epoch: it is the minibatches in them that `limit_train_batches`
        counts.
        """
        return super().trainer_settings() | {"limit_train_batches": 1.0}

    @property
    def stack(self) -> StackFile | None:
        """What the runs go on from together, None if each has a checkpoint of its own."""
        return self.runs[0].stack

    def callbacks(self) -> list[Callback]:
        """Without LearningRateMonitor, which looks at the optimizer: every epoch logs `lr` as it
        is.
        """
        return [
            callback
            for callback in super().callbacks()
            if not isinstance(callback, LearningRateMonitor)
        ]

    def callbacks_of_trials(self) -> list[Callback]:
        return super().callbacks_of_trials() if self.alone else [TrialEnds(self.runs)]

    def checkpoint_callback(self) -> BestAndLast | StackCheckpoint:
        if self.alone:
            return super().checkpoint_callback()
        self.stack_checkpoint = StackCheckpoint(self.runs, self.account)
        return self.stack_checkpoint

    def checkpoint_file(self) -> Path:
        return super().checkpoint_file() if self.stack is None else self.stack.file

    def diverged(self) -> dict[int, int]:
        there = {} if self.stack is None else self.stack.diverged
        return {
            index: there[run.position]
            for index, run in enumerate(self.runs)
            if run.position in there
        }

    def best_classifier(self, index: int, like: Classifier) -> Classifier | None:
        """Without reading it from a file, if this session has found it."""
        best = None if self.stack_checkpoint is None else self.stack_checkpoint.best[index]
        if best is None:
            return super().best_classifier(index, like)
        weights = best["state_dict"].values()  # layers are numbered otherwise with dropout
        like.load_state_dict(dict(zip(like.state_dict(), weights, strict=True)))
        return like.eval()

    def finish(self, ended: bool) -> None:
        if self.stack_checkpoint is not None:
            self.stack_checkpoint.finish(ended)
        elif self.stack is not None:
            self.stack.split()

    def close(self) -> None:
        stack = StackFile.of(self.runs[0].folder)
        if stack is not None:
            stack.remove()

    def module(self, classifiers: Sequence[Classifier], data: ImageDataModule) -> StackedClassifier:
        samples = len(data.train_samples.labels)
        chunks = ShuffledChunks(
            samples,
            data.batch_size,
            seeds=sorted({run.config.seed for run in self.runs}),
            steps=epoch_steps(-(-samples // data.batch_size), self.config.trainer.batches_of_epoch),
            steps_per_execution=self.config.engine.steps_per_execution,
            device=data.train_samples.labels.device,
        )
        module = StackedClassifier(classifiers, data.train_samples, chunks, self.config.objective)
        if self.stack is None:
            module.resumed = [run.checkpoint for run in self.runs if run.checkpoint is not None]
        return module

    def loaders(self, module: LightningModule, data: ImageDataModule) -> dict[str, Any]:
        assert isinstance(module, StackedClassifier)
        return {"train_dataloaders": module.chunks, "val_dataloaders": data.val_dataloader()}
