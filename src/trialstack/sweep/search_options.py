"""`hydra.sweeper` of a search, checked."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from omegaconf import OmegaConf

from trialstack.core.errors import UserError
from trialstack.core.rule import Rule, number, or_null, whole

LARGEST_BATCH = 64
"""Trials of a batch where `n_jobs` is null, at most: as many as a stack holds well."""

SAMPLERS = ("tpe", "random", "sobol", "cmaes", "gp")

_RULES: dict[str, Rule] = {
    "n_trials": whole(1, "64"),
    "n_jobs": or_null(whole(1, "16")),
    "repeats": whole(1, "3"),
    "max_failure_rate": number("from 0 to 1", lambda x: 0 <= x <= 1, "0.5"),
    "sampler": Rule(
        "the name of a sampler", lambda x: isinstance(x, Mapping) and "_target_" in x, "tpe"
    ),
}


@dataclass(frozen=True, kw_only=True)
class Options:
    """`hydra.sweeper`, see `conf/hydra/sweeper/optuna.yaml`."""

    sampler: Mapping[str, Any]
    n_trials: int
    n_jobs: int | None
    repeats: int
    direction: Any
    max_failure_rate: float
    study_name: str | None
    storage: str | None
    params: Mapping[str, Any] | None
    custom_search_space: str | None

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> "Options":
        """Return checked options.

        Raises:
            UserError: one breaks its rule, or is unknown.
        """
        known = {item.name for item in fields(cls)}
        plain = {key: _plain(value) for key, value in values.items()}
        for key, rule in _RULES.items():
            if key == "sampler" and isinstance(plain.get(key), str):
                raise UserError(
                    f"hydra.sweeper.sampler is a group, got {plain[key]!r}; try "
                    f"hydra/sweeper/sampler={'|'.join(SAMPLERS)}"
                )
            rule.check(f"hydra.sweeper.{key}", plain.get(key))
        unknown = plain.keys() - known
        if unknown:
            raise UserError(
                f"nothing reads hydra.sweeper.{min(unknown)}; there are {', '.join(sorted(known))}"
            )
        return cls(**plain)

    @property
    def batch(self) -> int:
        """Suggestions that are trained together."""
        return self.n_jobs or max(1, min(LARGEST_BATCH, self.n_trials // 4))

    @property
    def lines(self) -> list[str]:
        """`params` as overrides."""
        return [f"{key}={value}" for key, value in (self.params or {}).items()]


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
