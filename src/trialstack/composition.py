"""Composition of many configs: Hydra's own steps, of which those that depend on group choices alone are made once.

Hydra needs 0.1 s a composition, nearly all of it for loading and merging config files, which the jobs of a sweep share.
"""

import os
import pickle

from hydra import __version__, version
from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra._internal.config_repository import CachingConfigRepository
from hydra._internal.defaults_list import create_defaults_list
from hydra.conf import ConfigSourceInfo
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobRuntime
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict


class SweepConfigLoader(ConfigLoaderImpl):
    """Composes what Hydra's config loader does. Every config file is read once, so that later edits change nothing.

    Args:
        loader: Hydra's.
    """

    def __init__(self, loader: ConfigLoader) -> None:
        super().__init__(loader.get_search_path())
        self._parser = OverridesParser.create()
        self._parsed: dict[str, Override] = {}
        self._repositories: dict[tuple[object, ...], CachingConfigRepository] = {}
        self._groups: dict[tuple[int, str], bool] = {}
        self._bases: dict[tuple[object, ...], bytes] = {}

    def _load_configuration_impl(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> DictConfig:
        parsed = [self._parse(line) for line in overrides]
        if any(override.key_or_group.startswith("hydra.runtime") for override in parsed):  # which the bases have
            return super()._load_configuration_impl(
                config_name, overrides, run_mode, from_shell, validate_sweep_overrides
            )
        if validate_sweep_overrides:
            self.validate_sweep_overrides_legal(parsed, run_mode, from_shell)
        repository = self._repository(config_name, parsed)
        choosing: list[Override] = []
        changing: list[Override] = []
        for override in parsed:
            if not override.is_sweep_override():
                (choosing if self._chooses(override, repository) else changing).append(override)
        config: DictConfig = pickle.loads(self._base(config_name, choosing, run_mode, repository))
        self._apply_overrides_to_config(changing, config)
        _describe_job(config.hydra, config_name, parsed)
        return config

    def _parse(self, line: str) -> Override:
        if line not in self._parsed:
            self._parsed[line] = self._parser.parse_override(line)
        return self._parsed[line]

    def _repository(self, config_name: str | None, parsed: list[Override]) -> CachingConfigRepository:
        search_path = [override for override in parsed if override.get_key_element() == "hydra.searchpath"]
        key = config_name, *(override.input_line for override in search_path)
        if key not in self._repositories:
            self.ensure_main_config_source_available()
            repository = CachingConfigRepository(self.repository)
            self._process_config_searchpath(config_name, search_path, repository)
            self._repositories[key] = repository
        return self._repositories[key]

    def _chooses(self, override: Override, repository: CachingConfigRepository) -> bool:
        """Tell a group override from one of values, as Hydra does."""
        key = id(repository), override.key_or_group
        if key not in self._groups:
            self._groups[key] = repository.group_exists(override.key_or_group)
        return self._groups[key] and not isinstance(override.value(), dict)

    def _base(
        self,
        config_name: str | None,
        choosing: list[Override],
        run_mode: RunMode,
        repository: CachingConfigRepository,
    ) -> bytes:
        """Return the config of group choices before values are overridden; pickled, the fastest way to copy it."""
        key = id(repository), run_mode, *(override.input_line for override in choosing)
        if key not in self._bases:
            defaults = create_defaults_list(
                repo=repository,
                config_name=config_name,
                overrides_list=choosing,
                prepend_hydra=True,
                skip_missing=run_mode == RunMode.MULTIRUN,
            )
            config = self._compose_config_from_defaults_list(defaults.defaults, repository)
            OmegaConf.set_struct(config, True)
            OmegaConf.set_readonly(config.hydra, False)
            runtime = config.hydra.runtime
            with open_dict(runtime):
                runtime.choices.update(defaults.overrides.known_choices)
            runtime.version, runtime.version_base, runtime.cwd = __version__, version.getbase(), os.getcwd()
            runtime.config_sources = [
                ConfigSourceInfo(path=source.path, schema=source.scheme(), provider=source.provider)
                for source in repository.get_sources()
            ]
            self._bases[key] = pickle.dumps(config)
        return self._bases[key]


def _describe_job(hydra: DictConfig, config_name: str | None, parsed: list[Override]) -> None:
    """Fill in what depends on the values."""
    of_hydra = [override for override in parsed if override.is_hydra_override()]
    of_job = [override for override in parsed if not override.is_hydra_override()]
    hydra.overrides.hydra.extend([override.input_line for override in of_hydra])
    hydra.overrides.task.extend([override.input_line for override in of_job])
    job = hydra.job
    with open_dict(hydra):
        for name in job.env_copy:
            job.env_set[name] = os.environ[name]
    if "name" not in job:
        job.name = JobRuntime().get("name")
    dirname = job.config.override_dirname
    job.override_dirname = get_overrides_dirname(of_job, dirname.exclude_keys, dirname.item_sep, dirname.kv_sep)
    job.config_name = config_name
