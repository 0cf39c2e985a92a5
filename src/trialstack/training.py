"""Training: a function from trials to results."""

import errno
import logging
import os
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ProgressBar, Timer
from lightning.pytorch.trainer.states import TrainerStatus

from trialstack import tables
from trialstack.account import Account
from trialstack.build import build, instantiate_all
from trialstack.checkpoints import BestAndLast
from trialstack.chunks import ShuffledChunks, epoch_steps
from trialstack.classifier import Classifier, hyperparameters
from trialstack.data import ImageDataModule
from trialstack.devices import check_devices, device_name
from trialstack.errors import Diverged, Interrupted, UserError
from trialstack.folders import resume_command
from trialstack.history import Recorder
from trialstack.results import Result
from trialstack.runs import Run, is_main_process
from trialstack.stack_checkpoint import StackCheckpoint
from trialstack.stacked import StackedClassifier
from trialstack.stacking import stacks
from trialstack.trials import Trial

log = logging.getLogger(__name__)

_CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)


def train(trials: Sequence[Trial]) -> list[Result]:
    """Train trials, those that differ in numbers only as one stack, and leave a run folder each.

    Raises:
        UserError: a trial's input is at fault.
        Interrupted: Ctrl-C or SIGTERM; the folder can be resumed.
    """
    if not log.isEnabledFor(logging.DEBUG):
        _quiet()
    runs = [Run(trial) for trial in trials]
    with ExitStack() as locks:
        for run in runs:
            locks.enter_context(run.locked())
        locks.enter_context(_denormals_flushed())
        for together, stacked in stacks([run for run in runs if run.resume()]):
            (StackedFit if stacked else EagerFit)(together).train()
    return [run.result for run in runs]


@contextmanager
def _denormals_flushed() -> Iterator[None]:
    """Have CPUs take numbers below 1e-38 for 0: where pixels are dark, momentum decays to them, and they are slow.

    Threads that torch has started before keep their mode.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def _quiet() -> None:
    """Keep Lightning's tips, hints and banners off the terminal (`hydra.verbose=trialstack` shows them)."""
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if not is_main_process():
        logging.getLogger("trialstack").setLevel(logging.WARNING)
    for message in (
        "It is recommended to use `self.log",  # EpochMetrics has already synchronised what it logs
        "The number of training batches",  # and reads it once an epoch, whatever log_every_n_steps is
        "`isinstance\\(treespec, LeafSpec\\)` is deprecated",
        "Be aware that when using `ckpt_path`",  # a trial's callbacks are loaded from its own checkpoint
        "`training_step` returned `None`",
    ):
        warnings.filterwarnings("ignore", message=message)


class Fit:
    """One Trainer.fit, from its runs' configs to their results. What differs by engine is in the subclasses."""

    engine: ClassVar[str]

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs = runs
        self.config = runs[0].config
        self.account = Account()
        self.alone = len(runs) == 1
        for run in runs:
            run.account = self.account
            run.result.engine, run.result.stack_size = self.engine, len(runs)

    def module(self, classifiers: Sequence[Classifier], data: ImageDataModule) -> Classifier | StackedClassifier:
        """Return what is trained."""
        raise NotImplementedError

    def loaders(self, module: LightningModule, data: ImageDataModule) -> dict[str, Any]:
        """Return where Trainer.fit gets its batches from, as its arguments."""
        raise NotImplementedError

    def checkpoint_callback(self) -> Checkpoint:
        return BestAndLast(self.runs[0].best, self.account)

    def trainer_settings(self) -> dict[str, Any]:
        return dict(self.config["trainer"])

    def finish(self) -> None:
        """Write what is left to write after Trainer.fit, however that ended."""

    def train(self) -> None:
        """Train, test and write everything down; whatever happens, each result.json says it."""
        with self._recorded():
            self.account.seconds["startup"] = time.perf_counter() - self.runs[0].trial.began
            trainer = self._trainer()
            with self.account.measure("data"):
                data = self._data(trainer)
            classifiers = [self._classifier(run, data) for run in self.runs]
            classifiers[0].check_shapes()
            if trainer.is_global_zero:
                self._describe(trainer, classifiers, data)
            with self.account.measure("fit"):
                self._fit(trainer, self.module(classifiers, data), data)
            if trainer.is_global_zero:
                self._conclude(data)

    @contextmanager
    def _recorded(self) -> Iterator[None]:
        """Write every run's result at the end, however that comes.

        Raises:
            UserError: a file cannot be written.
            Interrupted: Ctrl-C or SIGTERM.
        """
        try:
            yield
        except KeyboardInterrupt:
            self._fail("interrupted", "by Ctrl-C or SIGTERM")
            raise Interrupted(f"{self._continues()} continues") from None
        except OSError as error:
            self._fail("failed", str(error))
            if error.errno not in _CANNOT_WRITE:
                raise
            raise UserError(
                f"cannot write {error.filename or self.runs[0].folder}: {error.strerror}; make room, then "
                f"{self._continues()} continues"
            ) from error
        except Exception as error:
            self._fail("failed", f"{type(error).__name__}: {error}")
            raise
        finally:
            for run in self.runs:
                run.write_result()

    def _continues(self) -> str:
        if self.alone:
            return f"`{resume_command(self.runs[0].folder)}`"
        return f"`train` with a `resume_trial` of each of the {len(self.runs)} folders"

    def _fail(self, status: str, reason: str) -> None:
        for run in self.runs:
            run.fail(status, reason)

    def _trainer(self) -> Trainer:
        settings = self.trainer_settings()
        check_devices(settings["accelerator"], settings["devices"])
        for run in self.runs:
            run.open_loggers()
        callbacks = list(self.runs[0].callbacks)
        defaults = {
            "enable_progress_bar": any(isinstance(callback, ProgressBar) for callback in callbacks),
            "enable_model_summary": False,  # tables.model_summary prints one
            "num_sanity_val_steps": 0,
            "use_distributed_sampler": False,  # minibatches are shared out by ShuffledMinibatches
        }
        recorder = Recorder([run.history for run in self.runs], [run.loggers for run in self.runs], self.account)
        max_time = settings.pop("max_time", None)
        try:
            if max_time is not None:  # Lightning's own would stop within an epoch, which cannot be resumed
                callbacks.append(Timer(max_time, interval="epoch", verbose=False))
            return Trainer(
                **{**defaults, **settings},
                default_root_dir=self.runs[0].folder,
                logger=self.runs[0].loggers if self.alone else False,
                callbacks=[self.account, *callbacks, recorder, self.checkpoint_callback()],
            )
        except (MisconfigurationException, ValueError, TypeError, RuntimeError) as error:
            raise UserError(f"trainer: {str(error).splitlines()[0]}; see conf/trainer/ for what works") from error

    def _data(self, trainer: Trainer) -> ImageDataModule:
        settings = dict(self.config["data"])
        settings["augment"] = instantiate_all("data.augment", settings.get("augment") or [])
        data = build("data", settings, ImageDataModule, seed=self.config["seed"])
        data.trainer = trainer
        data.setup()
        return data

    def _classifier(self, run: Run, data: ImageDataModule) -> Classifier:
        assert data.spec is not None
        return Classifier(**hyperparameters(run.config, data.spec))

    def _describe(self, trainer: Trainer, classifiers: Sequence[Classifier], data: ImageDataModule) -> None:
        config_yaml = tables.config_text(self.runs[0].trial.config)
        log.info("%s\n\n%s\n", config_yaml, tables.model_summary(classifiers[0]))
        if not self.alone:
            log.info("%d trials in one stack; the config above is the first one's", len(self.runs))
        for run, classifier in zip(self.runs, classifiers, strict=True):
            run.result.device = device_name(trainer.strategy.root_device)
            run.result.data = {"name": data.dataset, "checksums": data.checksums}
            run.describe(classifier, graph=run is self.runs[0])

    def _fit(self, trainer: Trainer, module: Classifier | StackedClassifier, data: ImageDataModule) -> None:
        checkpoint = self.runs[0].best.last if self.runs[0].checkpoint is not None else None
        if self.runs[0].trial.resume:
            begin = os.path.relpath(checkpoint) if checkpoint else "the beginning: there is no checkpoint yet"
            log.info("resuming from %s", begin)
        try:
            trainer.fit(module, **self.loaders(module, data), ckpt_path=checkpoint, weights_only=True)
        except Diverged:
            pass  # all trials; the module says when
        except SystemExit:  # what Lightning makes of Ctrl-C and SIGTERM
            if trainer.state.status == TrainerStatus.INTERRUPTED:
                raise KeyboardInterrupt from None
            raise
        finally:
            self.finish()
        for trial, run in enumerate(self.runs):
            self._judge(run, module.diverged.get(trial), trainer)

    def _judge(self, run: Run, diverged: int | None, trainer: Trainer) -> None:
        """Say how a run that was not interrupted ended."""
        if diverged is not None:
            run.result.status, run.result.reason = "diverged", str(Diverged(diverged))
            log.warning("diverged: %s (%s); try a smaller optimizer.lr", run.result.reason, os.path.relpath(run.folder))
            return
        run.result.status = "completed"
        if len(run.history.rows) < (trainer.max_epochs or 0):
            early = any(callback.stopped_epoch for callback in trainer.early_stopping_callbacks)
            why = f"{self.config['objective']} no longer improved" if early else "trainer.max_time was over"
            run.result.reason = f"stopped after epoch {len(run.history.rows)} of {trainer.max_epochs}: {why}"
            log.info("%s (%s)", run.result.reason, os.path.relpath(run.folder))

    def _conclude(self, data: ImageDataModule) -> None:
        for run in self.runs:
            run.conclude(data, pictures=self.alone)
            log.info("%s: %s", run.result.status, os.path.relpath(run.folder))
        where = self.account.describe(time.perf_counter() - self.runs[0].trial.began)
        if where is not None:
            log.info(where)


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

    def __init__(self, runs: Sequence[Run]) -> None:
        super().__init__(runs)
        self.stack_checkpoint: StackCheckpoint | None = None
        if not self.alone:
            folders, histories, bests = zip(*((run.folder, run.history, run.best) for run in runs), strict=True)
            self.stack_checkpoint = StackCheckpoint(folders, histories, bests, self.account)

    def trainer_settings(self) -> dict[str, Any]:
        """All chunks of an epoch: it is the minibatches in them that `limit_train_batches` counts."""
        return super().trainer_settings() | {"limit_train_batches": 1.0}

    def checkpoint_callback(self) -> Checkpoint:
        return self.stack_checkpoint or super().checkpoint_callback()

    def finish(self) -> None:
        if self.stack_checkpoint is not None:
            self.stack_checkpoint.finish()

    def module(self, classifiers: Sequence[Classifier], data: ImageDataModule) -> StackedClassifier:
        limits = self.config["trainer"]
        samples = len(data.train_samples.labels)
        chunks = ShuffledChunks(
            samples,
            data.batch_size,
            seeds=sorted({run.config["seed"] for run in self.runs}),
            steps=epoch_steps(
                -(-samples // data.batch_size), int(limits["fast_dev_run"]) or limits["limit_train_batches"]
            ),
            steps_per_execution=self.runs[0].steps_per_execution,
            device=data.train_samples.labels.device,
        )
        module = StackedClassifier(classifiers, data.train_samples, chunks, self.config["objective"])
        module.resumed = [run.checkpoint for run in self.runs if run.checkpoint is not None]
        return module

    def loaders(self, module: LightningModule, data: ImageDataModule) -> dict[str, Any]:
        assert isinstance(module, StackedClassifier)
        return {"train_dataloaders": module.chunks, "val_dataloaders": data.val_dataloader()}
