"""How stacks are divided among workers."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from trialstack.core.schema import TrialConfig
from trialstack.run.grouping import plan
from trialstack.run.trial import compose_trial
from trialstack.sweep.spread import last_end, spread


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> TrialConfig:
    return compose_trial(["model.hidden=[8]"], tmp_path_factory.mktemp("trial") / "run").config


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> TrialConfig:
    made = ["model.hidden=[800,800]", "engine.pad=false"]
    return compose_trial(made, tmp_path_factory.mktemp("wide") / "run").config


def sizes(configs: Sequence[TrialConfig], workers: int, on_gpu: bool = False) -> list[int]:
    parts = spread(plan(configs), configs, workers, on_gpu)
    assert sorted(member for part in parts for member in part) == list(range(len(configs)))
    return [len(part) for part in parts]


@pytest.mark.parametrize(
    ("trials", "workers", "expected"),
    [
        (64, 1, [64]),
        (64, 2, [32, 32]),
        (64, 8, [8] * 8),
        (5, 2, [3, 2]),
        (1, 8, [1]),
        (3, 8, [1, 1, 1]),
    ],
)
@pytest.mark.parametrize("on_gpu", [False, True])
def test_every_worker_has_a_part(
    trial: TrialConfig, trials: int, workers: int, expected: list[int], on_gpu: bool
) -> None:
    assert sizes([trial] * trials, workers, on_gpu) == expected


def test_small_stacks_stay_whole_beside_one_that_is_divided(
    trial: TrialConfig, wide: TrialConfig
) -> None:
    parts = sizes([trial] * 4 + [wide] * 8, 2)
    assert parts == [4, 4, 4]
    assert spread(plan([trial] * 4 + [wide] * 8), [trial] * 4 + [wide] * 8, 2, False)[-1] == [
        0,
        1,
        2,
        3,
    ]


@pytest.mark.parametrize(
    ("seconds", "workers", "end"), [([4, 3, 3], 2, 6), ([5], 3, 5), ([1, 1, 1, 1], 2, 2)]
)
def test_the_longest_tasks_are_taken_first(seconds: list[int], workers: int, end: int) -> None:
    assert last_end(seconds, workers) == end


def test_no_part_is_larger_than_a_stack_may_be(tmp_path: Path) -> None:
    config = compose_trial(["model.hidden=[8]", "engine.max_stack=3"], tmp_path / "run").config
    assert sizes([config] * 8, 1) == [3, 3, 2]
    assert sizes([config] * 8, 4) == [2, 2, 2, 2]
