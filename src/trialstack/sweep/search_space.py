"""What a search looks for: values of overrides, in the grammar of Hydra's sweeps.

Shapes: d parameters.
"""

import importlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    IntervalSweep,
    Override,
    QuotedString,
    RangeSweep,
    Transformer,
)
from omegaconf import DictConfig
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import Trial

from trialstack.core.errors import UserError
from trialstack.core.schema import KEYS

SCALARS = (str, int, float, bool, type(None))


@dataclass(frozen=True)
class Space:
    """Parameters with their distributions, and overrides that all trials have.

    Attributes:
        fixed: overrides.
        distributions: by key.
        texts: of a key's choices, as they are written in overrides.
        extend: asks a trial for more, given the config; None for nothing.
    """

    fixed: list[str]
    distributions: dict[str, BaseDistribution]
    texts: dict[str, dict[Any, str]]
    extend: Callable[[DictConfig, Trial], None] | None = None

    @classmethod
    def parse(cls, lines: Sequence[str], custom: str | None = None) -> "Space":
        """Return the space of overrides, of which later ones replace earlier ones.

        Args:
            lines: overrides.
            custom: dotted name of a function that extends it.

        Raises:
            UserError: there is nothing to search in, or a distribution cannot be.
        """
        fixed: dict[str, str] = {}
        distributions: dict[str, BaseDistribution] = {}
        texts: dict[str, dict[Any, str]] = {}
        for override in OverridesParser.create().parse_overrides(list(lines)):
            key = override.get_key_element()
            for known in (fixed, distributions, texts):
                known.pop(key, None)
            if not override.is_sweep_override():
                fixed[key] = str(override.input_line)
            elif override.is_choice_sweep() or _is_shuffled(override):
                texts[key] = _choices(override)
                distributions[key] = CategoricalDistribution(list(texts[key]))
            else:
                distributions[key] = _numbers(override)
                _check_ends(key, distributions[key], str(override.input_line))
        if not distributions and custom is None:
            raise UserError(
                "a search needs something to search in, got no interval, range or list; try "
                "'optimizer.lr=tag(log, interval(0.001, 1))'"
            )
        return cls(list(fixed.values()), distributions, texts, _imported(custom))

    def suggest(self, trial: Trial, config: DictConfig) -> list[str]:
        """Ask a trial for its parameters; return its overrides."""
        for key, distribution in self.distributions.items():
            _suggest(trial, key, distribution)
        if self.extend is not None:
            self.extend(config, trial)
        return self.overrides(trial.params)

    def overrides(self, params: Mapping[str, Any]) -> list[str]:
        """Return those of a trial with these parameters."""
        return [*self.fixed, *(f"{key}={self._text(key, x)}" for key, x in params.items())]

    def _text(self, key: str, value: Any) -> str:
        if key in self.texts:
            return self.texts[key][value]
        if isinstance(value, str):  # of a function of the user's own, who knows the grammar
            return value
        return "null" if value is None else str(value)

    def at(self, point_d: Sequence[float]) -> dict[str, Any]:
        """Return the parameters at a point of the unit cube."""
        return {
            key: _at(distribution, where)
            for (key, distribution), where in zip(self.distributions.items(), point_d, strict=True)
        }

    def params_of(self, value_of: Callable[[str], Any]) -> dict[str, Any]:
        """Return the parameters of a trial of the past, which may be of another space.

        Args:
            value_of: gives its value of a key.
        """
        found: dict[str, Any] = {}
        for key in self.distributions:
            found[key] = value = value_of(key)
            for choice, text in self.texts.get(key, {}).items():
                if choice == value or text == json.dumps(value, separators=(",", ":")):
                    found[key] = choice
                    break
        return found


def _suggest(trial: Trial, key: str, distribution: BaseDistribution) -> None:
    if isinstance(distribution, CategoricalDistribution):
        trial.suggest_categorical(key, distribution.choices)
    elif isinstance(distribution, IntDistribution):
        low, high = distribution.low, distribution.high
        trial.suggest_int(key, low, high, step=distribution.step, log=distribution.log)
    elif isinstance(distribution, FloatDistribution):
        start, end = distribution.low, distribution.high
        trial.suggest_float(key, start, end, step=distribution.step, log=distribution.log)


def _at(distribution: BaseDistribution, where: float) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[int(where * len(distribution.choices))]
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    low, high, step = distribution.low, distribution.high, distribution.step
    if distribution.log:
        value = math.exp(math.log(low) + where * (math.log(high) - math.log(low)))
    elif step is not None:
        value = low + step * math.floor(where * (math.floor((high - low) / step) + 1))
    else:
        value = low + where * (high - low)
    value = min(max(value, low), high)
    return round(value) if isinstance(distribution, IntDistribution) else value


def _choices(override: Override) -> dict[Any, str]:
    """Choices as Optuna shows them, with their texts; lists and the like are their texts."""
    encoded = list(override.sweep_iterator(transformer=Transformer.encode))
    texts = list(override.sweep_string_iterator())
    if not texts:
        raise UserError(f"{override.input_line} must have values, got none; leave it out")
    return {
        (
            str(text)
            if not isinstance(value, SCALARS) or isinstance(value, QuotedString)
            else value
        ): str(text)
        for value, text in zip(encoded, texts, strict=True)
    }


def _is_shuffled(override: Override) -> bool:
    value = override.value()
    return isinstance(value, RangeSweep) and bool(value.shuffle)


def _numbers(override: Override) -> BaseDistribution:
    value = override.value()
    assert isinstance(value, RangeSweep | IntervalSweep)
    low = value.start
    high = value.stop if isinstance(value, RangeSweep) else value.end
    assert low is not None
    assert high is not None
    log, step = "log" in value.tags, value.step if isinstance(value, RangeSweep) else None
    line = override.input_line
    if not low <= high:
        raise UserError(f"{line} must begin with the lower number, got {low} to {high}; swap them")
    if log and low <= 0:
        raise UserError(f"{line} must be above 0 for tag(log, ...), got {low}; try 1e-6")
    if step is not None and step <= 0:
        raise UserError(f"{line} must have a step above 0, got {step}; leave it out")
    if all(type(number) is int for number in (low, high, *([step] if step else []))):
        return IntDistribution(int(low), int(high), log, 1 if log else int(step or 1))
    return FloatDistribution(
        float(low), float(high), log, None if log or step is None else float(step)
    )


def _check_ends(key: str, distribution: BaseDistribution, line: str) -> None:
    """Whatever is suggested must keep the key's rule."""
    known = KEYS.get(key.lstrip("+"))
    if known is None or known.rule is None:
        return
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    for end in (distribution.low, distribution.high):
        try:
            known.rule.check(key, end)
        except UserError as error:
            whole = type(end) is float and known.rule.holds(int(end))
            remedy = "use range(...) of whole numbers" if whole else "move that end"
            raise UserError(f"{line}: {str(error).rpartition(';')[0]}; {remedy}") from None


def _imported(custom: str | None) -> Callable[[DictConfig, Trial], None] | None:
    if custom is None:
        return None
    module, _, name = custom.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"hydra.sweeper.custom_search_space={custom} cannot be imported: {error}; it must be "
            "the dotted name of a function"
        ) from error
    if not callable(found):
        raise UserError(f"hydra.sweeper.custom_search_space={custom} is no function")
    extend: Callable[[DictConfig, Trial], None] = found
    return extend
