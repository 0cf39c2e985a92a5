"""`hydra/sweeper=grid`: Hydra's basic sweeper, and lists that vary together."""

from dataclasses import dataclass
from itertools import chain, product
from pathlib import Path

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper, BasicSweeperConf
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Sweep
from hydra.core.utils import JobReturn
from omegaconf import OmegaConf

from trialstack.errors import TrialsFailed, UserError


@dataclass
class GridSweeperConf(BasicSweeperConf):
    _target_: str = "hydra_plugins.grid_sweeper.GridSweeper"


ConfigStore.instance().store(group="hydra/sweeper", name="grid", node=GridSweeperConf, provider="trialstack")


class GridSweeper(BasicSweeper):
    """All combinations of the lists; lists with the same `tag` vary together: `a=tag(x,choice(1,2))`.

    A job that fails does not keep later batches from running.
    """

    @staticmethod
    def split_arguments(overrides: list[Override], max_batch_size: int | None) -> list[list[list[str]]]:
        """Return batches of jobs, each a list of overrides.

        Raises:
            UserError: lists with the same tag differ in length, or one is empty.
            HydraException: one is an interval.
        """
        lines: dict[str, list[str]] = {}
        axes: dict[object, dict[str, None]] = {}
        for override in overrides:
            key = override.get_key_element()
            [jobs] = BasicSweeper.split_arguments([override], None)
            lines[key] = [line for [line] in jobs]
            if not jobs:
                raise UserError(f"{override.input_line} must have values to sweep over, got none; leave it out")
            value = override.value()
            tags = frozenset(value.tags) if isinstance(value, Sweep) else None
            axes.setdefault(tags or key, {})[key] = None
        points = [_together([lines[key] for key in keys]) for keys in axes.values()]
        jobs = [list(chain(*point)) for point in product(*points)]
        return list(BasicSweeper.split_overrides_to_chunks(jobs, max_batch_size)) if jobs else []

    def sweep(self, arguments: list[str]) -> list[list[JobReturn]]:
        """Launch all jobs, then raise what the first failed one raised."""
        assert self.hydra_context is not None
        assert self.config is not None
        assert self.launcher is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        overrides = parser.parse_overrides([*self._parse_config(), *arguments])
        batches = self.split_arguments(overrides, self.max_batch_size)
        accepts = getattr(self.launcher, "accepts", False)
        if len(batches) > 1 or not accepts:
            for batch in batches:
                self.validate_batch_is_legal(batch)
        if not accepts:
            folder = Path(self.config.hydra.sweep.dir)
            folder.mkdir(parents=True, exist_ok=True)
            OmegaConf.save(self.config, folder / "multirun.yaml")
        returned: list[list[JobReturn]] = []
        for batch in batches:
            returned.append(list(self.launcher.launch(batch, initial_job_idx=sum(map(len, returned)))))
        for job in chain(*returned):
            if isinstance(job._return_value, TrialsFailed):  # which has been reported
                raise job._return_value
            _ = job.return_value
        return returned


def _together(lists: list[list[str]]) -> list[tuple[str, ...]]:
    """Return the values of lists that vary together."""
    if len(set(map(len, lists))) > 1:
        listed = "; ".join(f"{len(values)} of {values[0].partition('=')[0]}" for values in lists)
        raise UserError(f"lists with the same tag must have the same length, got {listed}; make them as long")
    return list(zip(*lists, strict=True))
