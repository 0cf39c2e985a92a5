"""Time an epoch of everything that trains the articles' networks: `make bench`, or `python -m
benchmarks.bench --help`.

Every rival is a process that is stopped until its turn; a round is an epoch of each. So a ratio
compares epochs that ran seconds apart, and its median over rounds is robust where times are not.
Warm-up rounds are not counted. The results go to benchmarks/raw/TASK-DEVICE.json, and RESULTS.md is
made of all such files.
"""

import argparse
import dataclasses
import importlib.metadata
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.gate import Rival
from benchmarks.report import write_report
from benchmarks.task import PRODUCT_SIZE, TASKS, Task, prepare
from trialstack.core.load import Load
from trialstack.run.result import git_commit

FOLDER = Path(__file__).parent
PEAK = "matrix product"


def rivals() -> list[Rival]:
    """Every rival, new."""
    return [
        Rival(PEAK, "peak"),
        Rival("template: PIL, DataLoader, Lightning, torchmetrics", "template"),
        Rival("Lightning, tensors in memory, torchmetrics", "in_memory"),
        Rival("Keras, TensorFlow", "keras_fit"),
        Rival("Keras, TensorFlow, steps_per_execution=64", "keras_fit", steps_per_execution=64),
        Rival("PyTorch loop, tensors in memory", "torch_loop"),
        Rival("JAX, jit of a scan", "jax_scan"),
        Rival("JAX, vmap of 64 trials", "jax_scan", trials=64),
        Rival("eager engine", "engines", engine="eager"),
        Rival("stacked engine", "engines", engine="stacked"),
        *(
            Rival(
                f"stack of {trials}, {_seeds(seeds)}",
                "engines",
                engine="stacked",
                trials=trials,
                seeds=seeds,
            )
            for trials, seeds in (
                (4, 1),
                (4, 4),
                (8, 1),
                (8, 8),
                (16, 1),
                (32, 4),
                (64, 1),
                (64, 64),
            )
        ),
    ]


def _seeds(seeds: int) -> str:
    return "one seed" if seeds == 1 else f"{seeds} seeds"


def measure(task: Task, chosen: Sequence[str], warmup: int) -> dict[str, Any]:
    """Return rounds of seconds a trial and epoch by rival, and all that they depend on."""
    commit, data, before = git_commit(), prepare(task), others()
    entered = [
        rival
        for rival in rivals()
        if rival.name == PEAK or any(part in rival.name for part in chosen)
    ]
    try:
        running = [rival for rival in entered if rival.start(task)]
        for rival in entered:
            if rival not in running:
                print(
                    f"left out: {rival.name}; is `pip install -e '.[bench]'` done?", file=sys.stderr
                )
        for turn in range(task.epochs):
            for rival in running:
                seconds = rival.epoch()
                if turn >= warmup:
                    rival.seconds.append(seconds)
                print(
                    f"{task.name} round {turn + 1}/{task.epochs} {seconds:9.3f} s  {rival.name}",
                    flush=True,
                )
    finally:
        for rival in entered:
            rival.stop()
    return {
        "task": {name: value for name, value in vars(task).items() if name != "folder"}
        | {"flop": task.flop},
        "data": data,
        "warmup": warmup,
        "date": time.strftime("%Y-%m-%d"),
        "command": "python -m benchmarks.bench " + " ".join(sys.argv[1:]),
        "git": commit,
        "hardware": hardware(),
        "others": [before, others()],
        "versions": versions(),
        "flop_per_second": [10 * 2 * PRODUCT_SIZE**3 / seconds for seconds in running[0].seconds],
        "rivals": [
            {
                "name": rival.name,
                "trials": rival.trials,
                "seconds": rival.seconds,
                "peak_gib": rival.peak_gib,
            }
            for rival in running[1:]
        ],
    }


def others() -> float:
    """Return how many cores other processes hold, while nothing is measured."""
    load = Load()
    time.sleep(2)
    return round(load.others(), 2)


def hardware() -> str:
    import torch  # not above: a process with torch cannot load TensorFlow

    from trialstack.run.devices import device_name

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return f"{device_name(device)}, {os.cpu_count()} CPU cores"


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in (
        "torch",
        "lightning",
        "torchmetrics",
        "torchvision",
        "jax",
        "keras",
        "tensorflow",
        "numpy",
    ):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--task", choices=TASKS, help="one of the networks; both without it")
    parser.add_argument(
        "--rivals", nargs="+", default=[""], help="only those with one of these in their name"
    )
    parser.add_argument("--epochs", type=int, default=3, help="measured ones")
    parser.add_argument("--warmup", type=int, default=1, help="epochs before those")
    parser.add_argument(
        "--samples", type=int, default=60_000, help="of the training set, 5,000 of which validate"
    )
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder of raw/ and RESULTS.md")
    options = parser.parse_args()
    for task in TASKS.values():
        if options.task in (None, task.name):
            epochs = options.warmup + options.epochs
            with TemporaryDirectory() as folder:
                sized = dataclasses.replace(
                    task, samples=options.samples, epochs=epochs, folder=Path(folder)
                )
                result = measure(sized, options.rivals, options.warmup)
            kind = result["hardware"].partition(" ")[0].partition(":")[0]
            file = options.output / "raw" / f"{task.name}-{kind}.json"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    write_report(options.output)


if __name__ == "__main__":
    main()
