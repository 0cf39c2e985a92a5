"""`hydra/sweeper=grid`: all combinations of lists, and lists that vary together."""

from dataclasses import dataclass, field
from functools import partial
from itertools import chain, product
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Sweep
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from trialstack.core import layout
from trialstack.core.errors import TrialsFailed, UserError
from trialstack.core.hydra_internals import JobReturn, outcome
from trialstack.sweep.missing_key import explained


@dataclass
class GridSweeperConf:
    _target_: str = "hydra_plugins.grid_sweeper.GridSweeper"
    max_batch_size: int | None = None
    # null, as Hydra has it, cannot be overridden by values
    params: dict[str, str] | None = field(default_factory=dict)


ConfigStore.instance().store(
    group="hydra/sweeper", name="grid", node=GridSweeperConf, provider="trialstack"
)


class GridSweeper(Sweeper):
    """All combinations of the lists; lists with the same `tag` vary together:
    `a=tag(x,choice(1,2))`.

    A job that fails does not keep later batches from running.

    Args:
        max_batch_size: jobs that are launched at once; all, if None.
        params: overrides, as on the command line, which come before those that are there.
    """

    def __init__(
        self, max_batch_size: int | None = None, params: dict[str, str] | None = None
    ) -> None:
        self.max_batch_size = max_batch_size
        self.params = params or {}

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.hydra_context = hydra_context
        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> list[list[JobReturn]]:
        """Launch all jobs, then raise how many trials failed, or what the first of other jobs that
        failed raised.
        """
        assert self.hydra_context is not None
        assert self.config is not None
        assert self.launcher is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        params = [f"{key}={value}" for key, value in self.params.items()]
        jobs = grid(parser.parse_overrides([*params, *arguments]))
        batches = batched(jobs, self.max_batch_size)
        accepts = getattr(self.launcher, "accepts", False)
        if len(batches) > 1 or not accepts:
            for batch in batches:
                self.validate_batch_is_legal(batch)
        if not accepts:
            folder = Path(self.config.hydra.sweep.dir)
            folder.mkdir(parents=True, exist_ok=True)
            OmegaConf.save(self.config, folder / layout.MULTIRUN)
        returned: list[list[JobReturn]] = []
        for batch in batches:
            try:
                launched = self.launcher.launch(batch, initial_job_idx=sum(map(len, returned)))
            except HydraException as error:
                loader = self.hydra_context.config_loader
                compose = partial(loader.load_sweep_config, self.config)
                raise explained(error, jobs, compose) from error.__cause__
            returned.append(list(launched))
        failed = sum(isinstance(outcome(job), TrialsFailed) for job in chain(*returned))
        if failed:  # for reasons that have been reported
            raise TrialsFailed(f"{failed} of {sum(map(len, returned))} trials failed")
        for job in chain(*returned):
            _ = job.return_value
        return returned


def grid(overrides: list[Override]) -> list[list[str]]:
    """Return the jobs of a sweep, each a list of overrides.

    Raises:
        UserError: lists with the same tag differ in length, or something else than a list is swept
            over.
    """
    lines: dict[str, list[str]] = {}
    axes: dict[object, dict[str, None]] = {}
    for override in overrides:
        key = override.get_key_element()
        lines[key] = [f"{key}={value}" for value in _values(override)]
        value = override.value()
        tags = frozenset(value.tags) if isinstance(value, Sweep) else None
        axes.setdefault(tags or key, {})[key] = None
    points = [_together([lines[key] for key in keys]) for keys in axes.values()]
    return [list(chain(*point)) for point in product(*points)]


def batched(jobs: list[list[str]], size: int | None) -> list[list[list[str]]]:
    """Return `jobs` in batches of at most `size`, in one if that is None or -1.

    Raises:
        UserError: no batch can be of that size.
    """
    if size in (None, -1):
        return [jobs]
    assert size is not None
    if size < 1:
        raise UserError(
            f"hydra.sweeper.max_batch_size >= 1 must hold, got {size}; leave it out to have one "
            "batch"
        )
    return [jobs[start : start + size] for start in range(0, len(jobs), size)]


def _values(override: Override) -> list[Any]:
    """Return the values to sweep over, as they are written in overrides."""
    if not override.is_sweep_override():
        return [override.get_value_element_as_str()]
    if not override.is_discrete_sweep():
        raise UserError(
            f"{override.input_line} is an interval, which has no list of values; use choice(...) "
            "or range(...), or search in it with hydra/sweeper=optuna"
        )
    values = list(override.sweep_string_iterator())
    if not values:
        raise UserError(
            f"{override.input_line} must have values to sweep over, got none; leave it out"
        )
    return values


def _together(lists: list[list[str]]) -> list[tuple[str, ...]]:
    """Return the values of lists that vary together."""
    if len(set(map(len, lists))) > 1:
        listed = "; ".join(f"{len(values)} of {values[0].partition('=')[0]}" for values in lists)
        raise UserError(
            f"lists with the same tag must have the same length, got {listed}; make them as long"
        )
    return list(zip(*lists, strict=True))
