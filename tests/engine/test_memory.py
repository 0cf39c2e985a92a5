"""Memory: what stays of a stack that has trained or failed, how much there is, and errors that say
there is none.
"""

import errno
import gc
import mmap
import os
import resource
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from lightning.pytorch import Trainer

from tests.conftest import ROOT, Ended, composed
from tests.engine.stand_in import RECORDED
from trialstack.core.groups import DataConfig
from trialstack.data.cache import Datasets
from trialstack.data.minibatches import Samples
from trialstack.engine.execution import CPU, Execution
from trialstack.engine.losses import CrossEntropyLoss
from trialstack.engine.memory import (
    free_memory,
    is_out_of_memory,
    left_of_address_space,
    left_of_groups,
)
from trialstack.engine.mlp_stack import Stack
from trialstack.engine.models import MLP
from trialstack.engine.stacked import StackedClassifier
from trialstack.run.fit import Fit
from trialstack.run.result import Result
from trialstack.run.train import train

QUICK = ("model.hidden=[8]", "trainer.max_epochs=1", "trainer.limit_train_batches=2", "test=false")
UNFINISHED = "[enforce fail at inline_container.cc:671] . unexpected pos 6287616 vs 15510"
"""What torch says of a checkpoint that it could not finish, whatever the reason."""


@pytest.fixture
def alive(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[list[str]]]:
    """What is alive of all that has trained, at the beginning of every fit.

    A Trainer counts that has fitted, not one with which a config was tried.
    """
    there: weakref.WeakSet[Any] = weakref.WeakSet()
    seen: list[list[str]] = []

    def watched(original: Callable[..., None]) -> Callable[..., None]:
        @wraps(original)
        def method(self: Any, *arguments: Any, **named: Any) -> None:
            there.add(self)
            original(self, *arguments, **named)

        return method

    def train(fit: Fit) -> Any:
        seen.append(sorted(type(thing).__name__ for thing in there))
        return original(fit)

    original = Fit.train
    for kind in (StackedClassifier, Stack, MLP):
        monkeypatch.setattr(kind, "__init__", watched(kind.__init__))
    monkeypatch.setattr(Trainer, "fit", watched(Trainer.fit))
    monkeypatch.setattr(Fit, "train", train)
    yield seen
    gc.collect()
    assert not list(there)


@pytest.mark.parametrize("engine", ["stacked", "eager"])
def test_nothing_is_left_of_a_stack_when_the_next_one_begins(
    engine: str, alive: list[list[str]], tmp_path: Path
) -> None:
    settings = (*QUICK, f"engine={engine}", "callbacks=default")
    trials = [
        composed(tmp_path / str(size), *settings, f"data.batch_size={size}")
        for size in (16, 32, 64)
    ]
    assert [result.status for result in train(trials)] == ["completed"] * 3
    assert alive == [[]] * 3


def test_nothing_is_left_of_a_sweeps_stack_when_the_next_one_begins(
    alive: list[list[str]], command: Callable[..., Ended]
) -> None:
    ended = command(
        "train.py",
        "-m",
        *QUICK,
        "data.batch_size=16,32",
        "seed=1,2,3",
        "engine.max_stack=2",
        "sweep=s",
    )
    assert ended.code == 0, ended.err
    assert alive == [[]] * 4


@pytest.fixture
def too_small(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Have no more trials fit into the memory than a number; more fail when their checkpoint is
    written.
    """

    def limit(trials: int) -> None:
        original = StackedClassifier.on_save_checkpoint

        def save(module: StackedClassifier, checkpoint: dict[str, Any]) -> None:
            if len(module.seeds) > trials:
                try:
                    raise MemoryError
                finally:
                    raise RuntimeError(UNFINISHED)
            original(module, checkpoint)

        monkeypatch.setattr(StackedClassifier, "on_save_checkpoint", save)

    return limit


def test_nothing_is_left_of_a_stack_that_did_not_fit_when_its_halves_begin(
    alive: list[list[str]], too_small: Callable[[int], None], tmp_path: Path
) -> None:
    too_small(2)
    trials = [composed(tmp_path / str(seed), *QUICK, f"seed={seed}") for seed in range(5)]
    results = train(trials)
    assert [result.status for result in results] == ["completed"] * 5
    assert [result.stack_size for result in results] == [2, 2, 1, 2, 2]
    assert alive == [[]] * 5  # of 5, of 2 and 3, of 1 and 2


def test_trials_that_were_left_for_a_later_stack_train_when_the_first_one_does_not_fit(
    too_small: Callable[[int], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    too_small(1)
    monkeypatch.setattr("trialstack.run.stacked_fit.trials_that_fit", lambda configs, data: 2)
    trials = [composed(tmp_path / str(seed), *QUICK, f"seed={seed}") for seed in range(4)]
    assert [(result.status, result.stack_size) for result in train(trials)] == [
        ("completed", 1)
    ] * 4


def test_a_trial_that_does_not_fit_by_itself_fails_alone(
    command: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = StackedClassifier.setup

    def setup(module: StackedClassifier, stage: str) -> None:
        if 2 in module.seeds:
            raise MemoryError
        original(module, stage)

    monkeypatch.setattr(StackedClassifier, "setup", setup)
    ended = command("train.py", "-m", *QUICK, "seed=1,2,3", "sweep=s")
    assert ended.code == 1
    results = [Result.read(Path("outputs/sweeps/s", name)) for name in "012"]
    assert [result and result.status for result in results] == ["completed", "failed", "completed"]
    assert (
        "the trial does not fit into the memory" in Path("outputs/sweeps/s/1/train.log").read_text()
    )


@pytest.mark.parametrize("execution", [CPU, RECORDED])
def test_a_stack_does_not_keep_itself(
    execution: Execution, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trialstack.engine.execution.on", lambda device: execution)
    torch.manual_seed(0)
    networks = [MLP((1, 4, 5), 3, [7]) for _ in range(2)]
    samples = Samples(torch.rand(20, 1, 4, 5), torch.randint(3, (20,)))
    stack = Stack(
        networks,
        [0, 1],
        [{"_target_": "torch.optim.Adam", "lr": 0.1}] * 2,
        [CrossEntropyLoss()] * 2,
        samples,
        torch.float32,
    )
    stack.begin_epoch(np.full((2, 2), 0.1), first=0, epoch=0, batch_size=8)
    for _ in range(3):
        stack.train_chunk(torch.arange(16).view(1, 2, 8), start=0)
    reference = weakref.ref(stack)
    gc.disable()
    try:
        del stack
        assert reference() is None
    finally:
        gc.enable()


def test_datasets_are_shared_and_keep_no_trainer() -> None:
    config = DataConfig.parse(
        {"_target_": "trialstack.data.Digits", "batch_size": 32, "val_size": 300}
    )
    datasets = Datasets()
    trainers = [
        Trainer(accelerator="cpu", logger=False, enable_checkpointing=False) for _ in range(2)
    ]
    first, second = (datasets.load(config, seed=1, trainer=trainer) for trainer in trainers)
    assert [first.trainer, second.trainer] == trainers
    assert first.train_samples.images.data_ptr() == second.train_samples.images.data_ptr()
    references = [weakref.ref(trainer) for trainer in trainers]
    del trainers, first, second
    gc.collect()
    assert [reference() for reference in references] == [None, None]


def raised(
    error: BaseException, before: BaseException | None = None, suppressed: bool = False
) -> BaseException:
    error.__context__, error.__suppress_context__ = before, suppressed
    return error


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
        torch.AcceleratorError("CUDA error: out of memory"),
        RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate "
            "6360040 bytes"
        ),
        RuntimeError("unable to mmap 1234 bytes from file <a.ckpt>: Cannot allocate memory (12)"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("std::bad_alloc"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        raised(RuntimeError(UNFINISHED), MemoryError()),
        raised(ValueError("x"), raised(RuntimeError(UNFINISHED), MemoryError())),
    ],
    ids=repr,
)
def test_an_error_for_lack_of_memory_is_recognised(error: BaseException) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError(UNFINISHED),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        OSError(errno.ENOSPC, "No space left on device"),
        raised(RuntimeError(UNFINISHED), OSError(errno.ENOSPC, "No space left on device")),
        raised(OSError(errno.ENOSPC, "No space left on device"), MemoryError()),
        raised(ValueError("x"), MemoryError(), suppressed=True),
    ],
    ids=repr,
)
def test_another_error_is_not_taken_for_it(error: BaseException) -> None:
    assert not is_out_of_memory(error)


def groups(tmp_path: Path, own: str, files: dict[str, str]) -> float:
    """What is left of control groups that look like these files, to a process in `own`."""
    (tmp_path / "own").write_text(own)
    for name, content in files.items():
        (tmp_path / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cgroup" / name).write_text(content)
    return left_of_groups(tmp_path / "cgroup", tmp_path / "own")


@pytest.mark.parametrize(
    ("own", "files", "left"),
    [
        ("0::/\n", {"memory.max": "1000\n", "memory.current": "400\n"}, 600),
        ("0::/\n", {"memory.max": "max\n", "memory.current": "400\n"}, float("inf")),
        (
            "0::/a/b\n",
            {"a/b/memory.max": "max\n", "a/memory.max": "900", "a/memory.current": "100"},
            800,
        ),
        (
            "0::/a/b\n",
            {"a/b/memory.max": "500", "a/b/memory.current": "100", "a/memory.max": "max"},
            400,
        ),
        (
            "3:cpu,cpuacct:/x\n2:memory:/a\n",
            {"memory/a/memory.limit_in_bytes": "700", "memory/a/memory.usage_in_bytes": "100"},
            600,
        ),
        (
            "2:memory:/not/to/be/seen\n",  # from within a container
            {"memory/memory.limit_in_bytes": "700", "memory/memory.usage_in_bytes": "500"},
            200,
        ),
        ("", {}, float("inf")),
    ],
)
def test_the_limits_of_control_groups_count(
    own: str, files: dict[str, str], left: float, tmp_path: Path
) -> None:
    assert groups(tmp_path, own, files) == left


def test_a_machine_without_control_groups_has_no_limit(tmp_path: Path) -> None:
    assert left_of_groups(tmp_path / "cgroup", tmp_path / "own") == float("inf")


@pytest.mark.parametrize(
    ("machine", "groups", "addresses", "share"),
    [
        (8000, float("inf"), float("inf"), 1000),
        (80000, 8000, float("inf"), 1000),
        (80000, 8000, 1000, 500),
        (80000, -10, 1000, 0),
    ],
)
def test_a_stack_may_take_a_share_of_the_least_that_is_free(
    machine: int, groups: float, addresses: float, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "trialstack.engine.memory.psutil.virtual_memory", lambda: SimpleNamespace(available=machine)
    )
    monkeypatch.setattr("trialstack.engine.memory.left_of_groups", lambda: groups)
    monkeypatch.setattr("trialstack.engine.memory.left_of_address_space", lambda: addresses)
    assert free_memory(torch.device("cpu")) == share


def test_the_limit_of_the_address_space_counts() -> None:
    assert left_of_address_space() == float("inf")
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = psutil.Process().memory_info().vms + 2**30
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        before = left_of_address_space()
        with mmap.mmap(-1, 2**29):
            left = left_of_address_space()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    assert before <= 2**30
    assert before - left == pytest.approx(2**29, abs=2**24)


ADDRESSES = """
import resource
import psutil
import torch
from trialstack.engine.memory import left_of_address_space, return_addresses

limit = psutil.Process().memory_info().vms + 2**30
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
before = left_of_address_space()
return_addresses()
larger = torch.zeros(2**22)  # glibc keeps smaller blocks, once this one is freed
del larger
kept = []
tensors = []
for _ in range(50):
    tensors.append(torch.zeros(2**20))
    kept.append(torch.zeros(2**10))  # what lies behind them stays
del tensors
assert before - left_of_address_space() < 2**26
"""


@pytest.mark.commands
def test_the_addresses_of_tensors_come_back_under_a_limit() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    subprocess.run([sys.executable, "-c", ADDRESSES], check=True, env=environment)
