"""A run: a function from trials to results."""

import errno
import logging
import os
import time
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, ProgressBar, Timer
from lightning.pytorch.trainer.states import TrainerStatus
from lightning.pytorch.utilities import rank_zero_only

from trialstack import figures, tables, tensorboard
from trialstack.build import build, instantiate_all
from trialstack.checkpoints import BestAndLast, read_checkpoint
from trialstack.classifier import Classifier, hyperparameters
from trialstack.data import ImageDataModule
from trialstack.devices import check_devices, device_name
from trialstack.errors import Diverged, Interrupted, UserError
from trialstack.evaluation import evaluate
from trialstack.folders import composed, locked, remember, resume_command
from trialstack.history import METRICS, History
from trialstack.results import Result, git_commit, versions
from trialstack.trained import load_classifier
from trialstack.trials import Trial

log = logging.getLogger(__name__)

_CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)


def train(trials: Sequence[Trial]) -> list[Result]:
    """Train trials and leave a run folder each.

    Raises:
        UserError: a trial's input is at fault.
        Interrupted: Ctrl-C or SIGTERM; the folder can be resumed.
    """
    if not log.isEnabledFor(logging.DEBUG):
        _quiet()
    return [EagerRun(trial).train() for trial in trials]


def _is_main_process() -> bool:
    """Tell whether this is the process of a distributed run that prints and writes."""
    return getattr(rank_zero_only, "rank", 0) == 0


def _quiet() -> None:
    """Keep Lightning's tips, hints and banners off the terminal (`hydra.verbose=trialstack` shows them)."""
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if not _is_main_process():
        logging.getLogger("trialstack").setLevel(logging.WARNING)
    for message in (
        "It is recommended to use `self.log",  # EpochMetrics has already synchronised what it logs
        "The number of training batches",  # and reads it once an epoch, whatever log_every_n_steps is
        "`isinstance\\(treespec, LeafSpec\\)` is deprecated",
    ):
        warnings.filterwarnings("ignore", message=message)


class EagerRun:
    """One trial on the eager engine, from its config to its result."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.folder = trial.folder
        self.config = trial.values()
        self.tested: dict[str, float] = {}
        self.history = History(self.folder)
        self.checkpoints = BestAndLast(self.folder, self.config["objective"])
        self.result = Result(versions=versions(), git=git_commit(), overrides=list(trial.overrides))

    def train(self) -> Result:
        """Train, test and write everything down; whatever happens, result.json says it."""
        with locked(self.folder) if _is_main_process() else nullcontext():
            if self.trial.resume and _is_main_process() and (complete := self._complete()):
                return complete
            try:
                self._train()
            except KeyboardInterrupt:
                self._fail("interrupted", "by Ctrl-C or SIGTERM")
                raise Interrupted(f"`{resume_command(self.folder)}` continues") from None
            except OSError as error:
                self._fail("failed", str(error))
                if error.errno not in _CANNOT_WRITE:
                    raise
                raise UserError(
                    f"cannot write {error.filename or self.folder}: {error.strerror}; make room, then "
                    f"`{resume_command(self.folder)}` continues"
                ) from error
            except Exception as error:
                self._fail("failed", f"{type(error).__name__}: {error}")
                raise
            finally:
                self._write_result()
        return self.result

    def _complete(self) -> Result | None:
        """The result of the run to resume, if there is nothing left to do; else make it ready to go on.

        Raises:
            UserError: its checkpoint is damaged or not ours, or has more epochs than `trainer.max_epochs`.
        """
        result, max_epochs = Result.read(self.folder), self.config["trainer"]["max_epochs"]
        if self.checkpoints.last.exists():
            checkpoint = read_checkpoint(self.checkpoints.last)
            for callback in (self.history, self.checkpoints):  # so that result.json has it, however soon this ends
                callback.load_state_dict(checkpoint["callbacks"][callback.state_key])
            finished = checkpoint["epoch"] + 1
            if finished > max_epochs:
                raise UserError(
                    f"trainer.max_epochs >= {finished} must hold (epochs that the run has finished), got {max_epochs}"
                )
        changed = composed(self.folder).trainer != self.trial.config.trainer
        if result is not None and result.status == "completed" and not changed:
            log.info("%s is complete; trainer.max_epochs=N makes it longer", os.path.relpath(self.folder))
            return result
        remember(self.folder, self.trial.config)
        return None

    def _fail(self, status: str, reason: str) -> None:
        self.result.status, self.result.reason = status, reason

    def _train(self) -> None:
        seconds = self.result.seconds
        seconds["startup"] = time.perf_counter() - self.trial.began
        trainer = self._trainer()
        data, seconds["data"] = _timed(self._data, trainer)
        assert data.spec is not None
        classifier = Classifier(**hyperparameters(self.config, data.spec))
        classifier.check_shapes()
        self.result.device = device_name(trainer.strategy.root_device)
        self.result.data = {"name": data.dataset, "checksums": data.checksums}
        self.result.parameters = sum(p.numel() for p in classifier.network.parameters())
        config_yaml = tables.config_text(self.trial.config)
        log.info("%s\n\n%s\n", config_yaml, tables.model_summary(classifier))
        if trainer.is_global_zero:
            tensorboard.describe(trainer.loggers, classifier, self.config, config_yaml)
        _, seconds["fit"] = _timed(self._fit, trainer, classifier, data)
        if trainer.is_global_zero:
            self._conclude(trainer, data)

    def _trainer(self) -> Trainer:
        settings = dict(self.config["trainer"])
        check_devices(settings["accelerator"], settings["devices"])
        loggers = instantiate_all("logger", self.config["logger"].values())
        callbacks: list[Callback] = instantiate_all("callbacks", self.config["callbacks"].values())
        max_time = settings.pop("max_time", None)
        defaults = {
            "enable_progress_bar": any(isinstance(callback, ProgressBar) for callback in callbacks),
            "enable_model_summary": False,  # tables.model_summary prints one
            "num_sanity_val_steps": 0,
            "use_distributed_sampler": False,  # minibatches are shared out by ShuffledMinibatches
        }
        try:
            if max_time is not None:  # Lightning's own would stop within an epoch, which cannot be resumed
                callbacks.append(Timer(max_time, interval="epoch", verbose=False))
            return Trainer(
                **{**defaults, **settings},
                default_root_dir=self.folder,
                logger=loggers,
                callbacks=[*callbacks, self.history, self.checkpoints],
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

    def _fit(self, trainer: Trainer, classifier: Classifier, data: ImageDataModule) -> None:
        last = self.checkpoints.last if self.trial.resume and self.checkpoints.last.exists() else None
        if self.trial.resume:
            log.info("resuming from %s", os.path.relpath(last) if last else "the beginning: there is no checkpoint yet")
        try:
            trainer.fit(classifier, datamodule=data, ckpt_path=last, weights_only=True)
            self.result.status = "completed"
            if len(self.history.rows) < (trainer.max_epochs or 0):
                self._say_why_it_stopped(trainer)
        except Diverged as error:
            self.result.status, self.result.reason = "diverged", str(error)
            log.warning("diverged: %s; try a smaller optimizer.lr", error)
        except SystemExit:  # what Lightning makes of Ctrl-C and SIGTERM
            if trainer.state.status == TrainerStatus.INTERRUPTED:
                raise KeyboardInterrupt from None
            raise

    def _say_why_it_stopped(self, trainer: Trainer) -> None:
        early = any(callback.stopped_epoch for callback in trainer.early_stopping_callbacks)
        why = f"{self.config['objective']} no longer improved" if early else "trainer.max_time was over"
        self.result.reason = f"stopped after epoch {len(self.history.rows)} of {trainer.max_epochs}: {why}"
        log.info(self.result.reason)

    def _conclude(self, trainer: Trainer, data: ImageDataModule) -> None:
        """Test the best weights, and show and write what came out."""
        began = time.perf_counter()
        best = self._best()
        test = evaluate(best, data.test_samples) if best is not None and self.config["test"] else None
        self.result.seconds["test"] = time.perf_counter() - began
        rows, best_epoch = self.history.rows, self.checkpoints.best_epoch
        if test is not None:
            self.tested = {"test/loss": test.loss, "test/acc": test.accuracy}
        if best is not None and rows:
            final = self.tested | {name: rows[-1][name] for name in METRICS if name in rows[-1]}
            tensorboard.conclude(
                trainer.loggers, int(rows[-1]["step"]), self.config, final, best, test, data.test_samples.images
            )
        if rows:
            figures.save(figures.history_figure(rows, best_epoch), self.folder / "history.png")
            log.info("\n%s\n", tables.results_table(rows, best_epoch, test))
        log.info("%s: %s", self.result.status, os.path.relpath(self.folder))

    def _best(self) -> Classifier | None:
        """The classifier with the best weights that there are; None if no epoch was finished."""
        for checkpoint in (self.checkpoints.best, self.checkpoints.last):
            if checkpoint.exists():
                return load_classifier(checkpoint)
        return None

    def _write_result(self) -> None:
        if not _is_main_process():
            return
        rows, best_epoch = self.history.rows, self.checkpoints.best_epoch
        shown = next((row for row in rows if row["epoch"] == best_epoch), rows[-1] if rows else {})
        self.result.metrics = {name: shown[name] for name in METRICS if name in shown} | self.tested
        self.result.objective, self.result.best_epoch = self.checkpoints.best_score, best_epoch
        self.result.epochs = len(rows)
        self.result.seconds["total"] = time.perf_counter() - self.trial.began
        self.result.seconds = {part: round(seconds, 3) for part, seconds in self.result.seconds.items()}
        try:
            self.result.write(self.folder)
        except OSError as error:
            log.error("result.json cannot be written: %s", error)


def _timed(function: Any, *arguments: Any) -> tuple[Any, float]:
    began = time.perf_counter()
    value = function(*arguments)
    return value, time.perf_counter() - began
