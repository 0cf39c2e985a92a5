"""The private parts of Hydra that this project uses: what differs between Hydra 1.3.2 and 1.4 is
known here alone.
"""

import pickle
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import initialize_config_dir
from hydra._internal import config_loader_impl
from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository
from hydra._internal.hydra import Hydra
from hydra._internal.utils import get_args_parser
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton
from hydra.core.utils import (
    JobReturn,
    JobRuntime,
    JobStatus,
    configure_log,
    env_override,
    filter_overrides,
    run_job,
    setup_globals,
)
from hydra.types import HydraContext, RunMode
from hydra.version import VersionBase
from omegaconf import DictConfig, OmegaConf

__all__ = [
    "JobReturn",
    "JobStatus",
    "SweepConfigLoader",
    "configure_log",
    "env_override",
    "filter_overrides",
    "multirun",
    "outcome",
    "overrides_last",
    "own_hydra",
    "run_job",
    "setup_globals",
    "task_name",
]

_OF_A_PROGRAM: tuple[type, ...] = (GlobalHydra, HydraConfig, JobRuntime, VersionBase)
"""Singletons that say what Hydra does for the program that runs."""

# What Hydra 1.4 says of its future to authors of commands, in every run:
# - version_base, without which 1.3 behaves as 1.1 did, goes away;
# - a list of the classes that configs may name will be needed. Here that is any class of the user's
# own; those that
#   Hydra refuses as dangerous without a list stay refused.
warnings.filterwarnings("ignore", "The version_base parameter is deprecated")
warnings.filterwarnings("ignore", r"hydra\.utils\.instantiate\(\) resolved _target_")


def overrides_last(arguments: list[str]) -> list[str]:
    """Return a command's arguments with the overrides side by side at the end, wherever options
    stood between them.

    Hydra before 1.4 refuses other orders.
    """
    overrides = get_args_parser().parse_intermixed_args(arguments).overrides
    options = list(arguments)
    for override in overrides:
        options.remove(override)
    return [*options, *overrides]


@contextmanager
def own_hydra(conf: Path, job: str = "app") -> Iterator[Hydra]:
    """Have Hydra compose from the configs in `conf`, whatever it has been initialized with, and be
    afterwards what it was before.

    Meanwhile it has another configuration, job and version base; plugins and stored configs stay.
    """
    there = Singleton._instances
    before = {kind: there.pop(kind) for kind in _OF_A_PROGRAM if kind in there}
    try:
        with initialize_config_dir(str(conf.resolve()), job, version_base="1.3"):
            hydra = GlobalHydra.instance().hydra
            assert hydra is not None
            yield hydra
    finally:
        for kind in _OF_A_PROGRAM:
            there.pop(kind, None)
        there.update(before)


def multirun(
    hydra: Hydra,
    config_name: str,
    overrides: list[str],
    task: Callable[[DictConfig], Any],
    check: Callable[[DictConfig], None],
) -> None:
    """Run the jobs of a sweep as `-m` does, but for logging, which stays as it is.

    Args:
        hydra: composes.
        config_name: of the sweep.
        overrides: as on the command line.
        task: the jobs'.
        check: gets the sweep's config before anything is done.
    """
    of_sweep = ["hydra/hydra_logging=none", *overrides, "hydra.mode=MULTIRUN"]
    config = hydra.compose_config(config_name, of_sweep, RunMode.MULTIRUN)
    check(config)
    callbacks = Callbacks(config)
    callbacks.on_multirun_start(config=config, config_name=config_name)
    context = HydraContext(config_loader=hydra.config_loader, callbacks=callbacks)
    sweeper = Plugins.instance().instantiate_sweeper(
        hydra_context=context, task_function=task, config=config
    )
    sweeper.sweep(arguments=list(config.hydra.overrides.task))
    callbacks.on_multirun_end(config=config, config_name=config_name)


def task_name() -> str:
    """Return the name of the running script, without its ending."""
    return str(JobRuntime.instance().get("name"))


def outcome(job: JobReturn) -> Any:
    """Return what a job gave, or the exception that it raised, which `job.return_value` raises
    again.
    """
    return job._return_value


class SweepConfigLoader(ConfigLoaderImpl):
    """Composes what Hydra's config loader does, with the steps that jobs of a sweep share made
    once.

    Hydra needs 0.1 s a composition, nearly all of it for loading and merging config files. Every
    file is read once, so that later edits change nothing.

    Args:
        loader: Hydra's.
    """

    def __init__(self, loader: ConfigLoader) -> None:
        super().__init__(loader.get_search_path())
        self._parser = OverridesParser.create()
        self._parsed: dict[str, Override] = {}
        self._repositories: dict[tuple[str | None, ...], CachingConfigRepository] = {}
        self._groups: dict[str, bool] = {}
        self._bases: dict[tuple[str, ...], bytes] = {}

    def load_sweep_config(
        self, master_config: DictConfig, sweep_overrides: list[str]
    ) -> DictConfig:
        """Return a job's config: Hydra's of the group choices, with values overridden as Hydra
        does.
        """
        parsed = [self._parse(line) for line in sweep_overrides]
        changing = [override for override in parsed if self._changes_value(override, master_config)]
        choosing = [
            line
            for line, override in zip(sweep_overrides, parsed, strict=True)
            if override not in changing
        ]
        key = *_hydra_overrides(master_config), *choosing
        if key not in self._bases:
            # fastest to copy
            self._bases[key] = pickle.dumps(super().load_sweep_config(master_config, choosing))
        config: DictConfig = pickle.loads(self._bases[key])
        self._apply_overrides_to_config(changing, config)
        _describe(
            config.hydra, [override for override in parsed if not override.is_hydra_override()]
        )
        OmegaConf.copy_cache(from_config=master_config, to_config=config)
        return config

    def _parse(self, line: str) -> Override:
        if line not in self._parsed:
            self._parsed[line] = self._parser.parse_override(line)
        return self._parsed[line]

    def _changes_value(self, override: Override, master: DictConfig) -> bool:
        """Tell an override of a value from what Hydra itself must see: group choices, its own keys
        and mistakes.
        """
        if override.is_hydra_override() or override.is_sweep_override():
            return False
        group = override.key_or_group
        if group not in self._groups:
            repository = self._repository(master.hydra.job.config_name, _hydra_overrides(master))
            self._groups[group] = repository.group_exists(group)
        return not self._groups[group] or isinstance(override.value(), dict)

    def _parse_overrides_and_create_caching_repo(
        self, config_name: str | None, overrides: list[str], *parsed: Any
    ) -> tuple[list[Override], CachingConfigRepository]:
        """Hydra's method, which makes a new repository for each composition."""
        found, _ = super()._parse_overrides_and_create_caching_repo(config_name, overrides, *parsed)
        return found, self._repository(config_name, overrides)

    def _repository(self, config_name: str | None, overrides: list[str]) -> CachingConfigRepository:
        search_path = [line for line in overrides if "searchpath" in line]
        key = config_name, *search_path
        if key not in self._repositories:
            _, repository = super()._parse_overrides_and_create_caching_repo(
                config_name, search_path
            )
            self._repositories[key] = repository
        return self._repositories[key]


def _hydra_overrides(master: DictConfig) -> list[str]:
    return list(map(str, OmegaConf.to_container(master.hydra.overrides.hydra, resolve=False) or ()))


def _describe(hydra: DictConfig, overrides: list[Override]) -> None:
    """Fill in what depends on the values of the job's own overrides."""
    hydra.overrides.task = [override.input_line for override in overrides]
    job = hydra.job
    if not OmegaConf.is_interpolation(job, "override_dirname"):  # as it is from Hydra 1.4 on
        dirname = job.config.override_dirname
        job.override_dirname = config_loader_impl.get_overrides_dirname(
            overrides, dirname.exclude_keys, dirname.item_sep, dirname.kv_sep
        )
