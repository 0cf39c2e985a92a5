"""A key that some options of a swept group have and others have not: no grid has both."""

from collections.abc import Callable, Iterable, Sequence

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from trialstack.core.errors import UserError
from trialstack.core.unread import NotRead


def explained(
    error: HydraException,
    jobs: Sequence[Sequence[str]],
    compose: Callable[[list[str]], DictConfig],
) -> HydraException:
    """Return what a user is told of a sweep of which a job cannot be composed, or is not read:
    `error`, unless it is of a key that other options of a group have.

    Args:
        error: of one of the jobs.
        jobs: their overrides, each job's in the same order.
        compose: makes a config of overrides.
    """
    key = _key(error)
    if key is None:
        return error
    try:
        configs = [compose([line for line in job if _name(line) != key]) for job in jobs]
    except HydraException:  # there is more that is wrong
        return error
    has_key = [OmegaConf.select(config, key, default=_NONE) is not _NONE for config in configs]
    for lines in zip(*jobs, strict=True):
        having = dict.fromkeys(line for line, has in zip(lines, has_key, strict=True) if has)
        lacking = dict.fromkeys(line for line, has in zip(lines, has_key, strict=True) if not has)
        is_option = _name(lines[0]) in configs[0].hydra.runtime.choices
        if is_option and having and lacking and not having.keys() & lacking.keys():
            return UserError(_two_commands(key, _joined(having), _joined(lacking), jobs))
    return error


_NONE = object()


def _key(error: HydraException) -> str | None:
    """Return the key that is not there, or is not read."""
    if isinstance(error, NotRead):
        return error.key
    cause = error.__cause__
    return str(cause.full_key) if isinstance(cause, OmegaConfBaseException) else None


def _two_commands(key: str, having: str, lacking: str, jobs: Sequence[Sequence[str]]) -> str:
    settings = _joined(line for job in jobs for line in job if _name(line) == key)
    name = next((line for line in jobs[0] if _name(line) == "sweep"), "sweep=NAME")
    return (
        f"{lacking} has no {key}, as {having} has; make it two commands that train one sweep: with "
        f"`{having} {settings} {name}`, and with `{lacking} {name}`"
    )


def _name(line: str) -> str:
    return line.partition("=")[0].lstrip("+~").partition("@")[0]


def _joined(lines: Iterable[str]) -> str:
    """Return overrides of one key as one, with all their values."""
    first, *others = dict.fromkeys(lines)
    return ",".join([first, *(line.partition("=")[2] for line in others)])
