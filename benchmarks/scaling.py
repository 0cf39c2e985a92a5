"""Simulates sweeps on many workers, from what tasks cost on one machine: `python -m
benchmarks.scaling` (5 minutes; without `DATA_ROOT` on random images).

Measured are, on Ray, what a worker needs until its first stack has its results and what each stack
after it costs; an epoch's seconds by size of a stack are `make bench`'s. The plan is the sweep's
own.
"""

import json
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.bench import FOLDER, hardware, others, versions
from benchmarks.report import write_report
from benchmarks.sweeps import command, environment
from trialstack.run.grouping import plan
from trialstack.run.result import Result, git_commit
from trialstack.run.trial import compose_trial
from trialstack.sweep.spread import last_end, spread

STACKS = 200
MEASURED = (
    f"seed=range(1,{STACKS + 1})", "engine.max_stack=1", "trainer.max_epochs=1",
    "trainer.limit_train_batches=64", "hydra/launcher=ray", "hydra.launcher.ray.remote.num_cpus=1",
    "logger=none",
)  # fmt: skip
TRIALS, WORKERS, EPOCHS = (64, 1024, 4096), (1, 8, 64, 512), 30


def measure() -> dict[str, Any]:
    """Run a sweep of many small stacks on two workers of a core each; return seconds of the
    command, until the first result, and between two results of a worker, with what of the latter
    the stack itself took.
    """
    with TemporaryDirectory() as folder:
        began = time.time()
        subprocess.run(
            command(MEASURED), cwd=folder, env=environment(), check=True, stdout=subprocess.DEVNULL
        )
        seconds = time.time() - began
        files = sorted(
            Path(folder).glob("outputs/sweeps/s/*/result.json"),
            key=lambda file: file.stat().st_mtime,
        )
        ended = np.array([file.stat().st_mtime for file in files]) - began
        results = [Result.read(file.parent) for file in files]
    workers = 2
    return {
        "command": " ".join(MEASURED),
        "seconds": seconds,
        "first": float(ended[0]),
        "each": float(workers * (ended[-1] - ended[workers]) / (len(ended) - workers - 1)),
        "stack": median(result.seconds["total"] for result in results if result is not None),
    }


def simulate(measured: dict[str, Any], sizes: Sequence[int], epoch: Sequence[float]) -> list[Any]:
    """Return trials, workers, stacks and seconds of sweeps whose trials can all train together.

    Args:
        measured: of `measure`.
        sizes: of stacks, rising.
        epoch: seconds of a trial's epoch in stacks of these sizes.
    """
    with TemporaryDirectory() as folder:
        config = compose_trial(["model=mlp300", "data=fashion"], Path(folder) / "run").config
    rows = []
    for trials in TRIALS:
        configs = [config] * trials
        for workers in WORKERS:
            parts = spread(plan(configs), configs, workers, on_gpu=False)
            tasks = [
                measured["each"] + EPOCHS * len(part) * np.interp(len(part), sizes, epoch)
                for part in parts
            ]
            end = measured["first"] - measured["each"] + last_end(tasks, workers)
            rows.append([trials, workers, len(parts), float(end)])
    return rows


def main() -> None:
    bench = json.loads((FOLDER / "raw" / "mlp300-cpu.json").read_text(encoding="utf-8"))
    own_seeds = {
        rival["trials"]: median(rival["seconds"])
        for rival in bench["rivals"]
        if rival["name"].startswith("stack") and "one seed" not in rival["name"]
    }
    before, measured = others(), measure()
    sizes = sorted(own_seeds)
    result = {
        "date": time.strftime("%Y-%m-%d"),
        "git": git_commit(),
        "hardware": hardware(),
        "others": [before, others()],
        "versions": versions(),
        "epochs": EPOCHS,
        "bench": bench["hardware"],
        "measured": measured,
        "scaling": simulate(measured, sizes, [own_seeds[size] for size in sizes]),
    }
    file = FOLDER / "raw" / "scaling-cpu.json"
    file.write_text(json.dumps(result) + "\n", encoding="utf-8")
    write_report(FOLDER)


if __name__ == "__main__":
    main()
