"""Whole commands: sweeps, their estimates, rivals, and the tests that need a GPU."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import sweeps
from benchmarks.gpu.check import NEEDS_CUDA, Finding, Where
from trialstack.run.result import Result

ROOT = Path(__file__).parent.parent.parent

ARTICLE = (
    "optimizer.lr=" + ",".join(f"{0.1 / 1.05**power:.5f}" for power in range(64)),
    "trainer.max_epochs=30",
)
"""64 trials of 30 epochs of the second article's network."""
MOST_SECONDS_OF_FIT, MOST_SECONDS = 12, 40

ESTIMATED_WITHIN = 1.5

SWEEPS = ("16 learning rates", "8 learning rates, 4 seeds", "1,000 trials of 62 steps")

RIVALS = ("PyTorch loop", "JAX", "eager engine", "stacked engine", "stack of 64, one seed")
VMAP, STACK = "JAX, vmap of 64 trials", "stack of 64, one seed"


def article(where: Where) -> Finding:
    """64 trials as one command, and what a dry run says of it."""
    if not where.cuda:
        return NEEDS_CUDA
    command = sweeps.command((*ARTICLE, "dry_run=true"))
    said = subprocess.run(
        command, cwd=where.folder, env=sweeps.environment(), capture_output=True, text=True
    )
    measured = sweeps.measure(ARTICLE, where.folder)
    found = re.search(r"about (\d+) s of training", said.stdout)
    estimated = float(found[1]) if found else float("nan")
    trained = measured["parts"]["training"] + measured["parts"]["validation"]
    as_estimated = 1 / ESTIMATED_WITHIN <= estimated / trained <= ESTIMATED_WITHIN
    fit, whole = measured["parts"]["fit"], measured["seconds"]
    return Finding(
        fit <= MOST_SECONDS_OF_FIT and whole <= MOST_SECONDS and as_estimated,
        f"64 trials of 30 epochs: fit {fit:.1f} s, command {whole:.1f} s; training and validation "
        f"{trained:.1f} s, estimated {estimated:.0f} s",
        {**measured, "estimated": estimated},
    )


def one_run(where: Where) -> Finding:
    """A single run, as a command."""
    accelerator = "gpu" if where.cuda else "cpu"
    command = [sys.executable, str(ROOT / "train.py"), f"trainer.accelerator={accelerator}"]
    own = ["hydra.run.dir=run", "trainer.max_epochs=2"]
    ended = subprocess.run([*command, *own], cwd=where.folder, capture_output=True, text=True)
    result = Result.read(where.folder / "run") if ended.returncode == 0 else None
    if result is None:
        return Finding(False, f"exit code {ended.returncode}: {ended.stderr[-500:]}")
    on_device = str(result.device).startswith(where.device.type)
    return Finding(on_device, f"{result.device}, {result.seconds['total']:.1f} s")


def whole_sweeps(where: Where) -> Finding:
    """Those of `benchmarks.sweeps`."""
    if not where.cuda:
        return NEEDS_CUDA
    numbers = {}
    for number, name in enumerate(SWEEPS):
        folder = where.folder / str(number)
        folder.mkdir()
        numbers[name] = sweeps.measure(sweeps.SWEEPS[name], folder)
    return Finding(
        None, "; ".join(f"{name} {run['seconds']:.1f} s" for name, run in numbers.items()), numbers
    )


def rivals(where: Where) -> Finding:
    """Seconds of a trial's epoch, of rivals on the same device."""
    if not where.cuda:
        return NEEDS_CUDA
    command = [
        sys.executable, "-m", "benchmarks.bench", "--task", "mlp300", "--output",
        str(where.folder), "--rivals", *RIVALS,
    ]  # fmt: skip
    # JAX would take three quarters of the memory before the others have any
    environment = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if ended.returncode != 0:
        return Finding(False, ended.stderr[-500:])
    [file] = (where.folder / "raw").iterdir()
    result: dict[str, Any] = json.loads(file.read_text())
    times = {rival["name"]: median(rival["seconds"]) for rival in result["rivals"]}
    faster = times[STACK] <= times[VMAP] if {STACK, VMAP} <= set(times) else None
    return Finding(
        faster, "s/epoch: " + ", ".join(f"{name} {taken:.3f}" for name, taken in times.items()),
        result,
    )  # fmt: skip


def gpu_tests(where: Where) -> Finding:
    """`pytest -m gpu`."""
    if not where.cuda:
        return NEEDS_CUDA
    if importlib.util.find_spec("pytest") is None:
        return Finding(None, "pytest is missing")
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    lines = ended.stdout.strip().splitlines()
    last = lines[-1] if lines else ended.stderr[-500:]
    return Finding(ended.returncode == 0 and " passed" in last, last)
