"""What a job of a sweep sees and where it logs, in whatever process it is trained."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from trialstack.core.hydra_internals import configure_log, env_override


class JobEnvironment:
    """Of one job.

    Args:
        config: composed, with its `hydra` node.
    """

    def __init__(self, config: DictConfig) -> None:
        self.config = config

    @contextmanager
    def active(self) -> Iterator[None]:
        """Have `${hydra:...}` and the environment variables as the job sees them."""
        instance, job = HydraConfig.instance(), self.config.hydra.job
        before, there = instance.cfg, os.getcwd()
        instance.cfg = self.config  # type: ignore[assignment] # `set_config` would copy it
        try:
            with env_override(job.env_set):
                if job.chdir and self.config.hydra.runtime.output_dir:
                    os.chdir(self.config.hydra.runtime.output_dir)
                yield
        finally:
            instance.cfg = before
            os.chdir(there)

    @contextmanager
    def logging(self) -> Iterator[None]:
        """Log as the job's config says, except to the terminal, which is the sweep's."""
        hydra = self.config.hydra
        package, root = logging.getLogger("trialstack"), logging.getLogger()
        level, handlers, root_level = package.level, root.handlers[:], root.level
        package.setLevel(logging.NOTSET)
        with self.active(), _handlers_kept():
            configure_log(hydra.job_logging, hydra.verbose)
        for handler in root.handlers[:]:
            if type(handler) is logging.StreamHandler:
                root.removeHandler(handler)
        try:
            yield
        finally:
            for handler in root.handlers[:]:
                root.removeHandler(handler)
                handler.close()
            for handler in handlers:
                root.addHandler(handler)
            root.setLevel(root_level)
            package.setLevel(level)


@contextmanager
def _handlers_kept() -> Iterator[None]:
    """Keep open what handlers there are, all of which `logging.config` would close: a program that
    calls a sweep goes on with its own.
    """
    names, handlers = logging._handlers, logging._handlerList  # type: ignore[attr-defined]
    by_name, there = dict(names), handlers[:]
    names.clear()
    handlers.clear()
    try:
        yield
    finally:
        names.update(by_name)
        handlers[:0] = there
