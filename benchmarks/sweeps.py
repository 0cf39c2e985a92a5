"""Times whole sweeps, as commands: `python -m benchmarks.sweeps` (10 minutes; without `DATA_ROOT`
on random images).

The results go to benchmarks/raw/sweeps-DEVICE.json and into RESULTS.md.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.bench import FOLDER, hardware, others, versions
from benchmarks.report import write_report
from trialstack.run.result import Result, git_commit

ROOT = FOLDER.parent
RATES = "optimizer.lr=" + ",".join(f"{0.3 / 1.3**power:.4f}" for power in range(16))
SWEEPS: dict[str, Sequence[str]] = {
    "16 learning rates": (RATES, "trainer.max_epochs=3"),
    "16 learning rates, Hydra's basic launcher, eager engine": (
        RATES,
        "trainer.max_epochs=3",
        "hydra/launcher=basic",
        "hydra/sweeper=basic",
        "engine=eager",
    ),
    "8 learning rates, 4 seeds": (
        "optimizer.lr=0.3,0.2,0.1,0.05,0.03,0.02,0.01,0.003",
        "seed=1,2,3,4",
        "trainer.max_epochs=3",
    ),
    "1,000 trials of 62 steps": (
        "optimizer.lr=range(0.001,0.251,0.001)", "seed=1,2,3,4", "trainer.max_epochs=1",
        "trainer.limit_train_batches=62",
    ),
    "dry run of those": (
        "optimizer.lr=range(0.001,0.251,0.001)", "seed=1,2,3,4", "trainer.max_epochs=1",
        "trainer.limit_train_batches=62", "dry_run=true",
    ),
}  # fmt: skip
RANDOM = ["data._target_=benchmarks.random_images.RandomImages", "data.val_size=5000"]
PARTS = ("startup", "data", "training", "validation", "logging", "checkpoints", "test")


def measure(overrides: Sequence[str], folder: Path) -> dict[str, Any]:
    """Run a sweep of mlp300 on Fashion-MNIST; return seconds of the command and of its parts, and
    its peak memory.
    """
    began = time.perf_counter()
    process = subprocess.Popen(
        command(overrides), cwd=folder, env=environment(), stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    if status:
        raise RuntimeError(f"{' '.join(command(overrides))} failed")
    read = (Result.read(path.parent) for path in folder.glob("outputs/sweeps/s/*/result.json"))
    results = [result for result in read if result is not None]
    results.sort(
        key=lambda result: result.seconds["total"]
    )  # the last of a stack has the seconds of all of them
    fits = {(result.seconds["training"], result.seconds["fit"]): result for result in results}
    spent = {
        part: sum(result.seconds[part] for result in fits.values()) for part in (*PARTS, "fit")
    }
    return {
        "command": " ".join(overrides),
        "seconds": seconds,
        "peak_gib": usage.ru_maxrss / 2**20,
        "parts": spent,
        "trials": len(results),
        "stacks": len(fits),
    }


def command(overrides: Sequence[str]) -> list[str]:
    """Return a sweep of mlp300, on Fashion-MNIST or random images."""
    there = ["data=fashion"] if "DATA_ROOT" in os.environ else RANDOM
    return [
        sys.executable, str(ROOT / "train.py"), "-m", "model=mlp300", *there, "sweep=s", *overrides
    ]  # fmt: skip


def environment() -> dict[str, str]:
    """Return that of a command in another folder: where the data and this package are."""
    changed = {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    if "DATA_ROOT" in os.environ:
        changed["DATA_ROOT"] = str(Path(os.environ["DATA_ROOT"]).resolve())
    return {**os.environ, **changed}


def main() -> None:
    sweeps, before = {}, others()
    for name, overrides in SWEEPS.items():
        with TemporaryDirectory() as folder:
            sweeps[name] = measure(overrides, Path(folder))
        print(
            f"{sweeps[name]['seconds']:8.1f} s {sweeps[name]['peak_gib']:5.2f} GiB  {name}",
            flush=True,
        )
    device = hardware()
    result = {
        "date": time.strftime("%Y-%m-%d"),
        "git": git_commit(),
        "hardware": device,
        "others": [before, others()],
        "versions": versions(),
        "sweeps": sweeps,
    }
    file = FOLDER / "raw" / f"sweeps-{device.partition(' ')[0].partition(':')[0]}.json"
    file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    write_report(FOLDER)


if __name__ == "__main__":
    main()
