"""Searches for the second article's settings, ours and rivals', as whole commands on Fashion-MNIST
in `DATA_ROOT`: `python -m benchmarks.search` (an hour; `--help`).

What is compared is the best accuracy in validation that a search has seen after so many seconds.
The results go to benchmarks/raw/search-DEVICE.json, into RESULTS.md and search.png.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

from benchmarks.bench import FOLDER, hardware, others, versions
from benchmarks.report import write_report
from benchmarks.search.figure import draw
from benchmarks.search.rivals import RIVALS
from benchmarks.search.space import DECAY, EPOCHS, MOMENTUM, RATE, TRIALS
from benchmarks.sweeps import ROOT, environment
from trialstack.run.metrics_csv import read_rows
from trialstack.run.result import git_commit

OURS: dict[str, list[str]] = {
    "trialstack": [],
    "trialstack, one batch": ["hydra/sweeper/sampler=sobol", f"hydra.sweeper.n_jobs={TRIALS}"],
}


def ours(seed: int, arguments: list[str]) -> list[str]:
    """Return the command of a search."""
    return [
        sys.executable, str(ROOT / "train.py"), "-m", "model=mlp300", "data=fashion", "sweep=s",
        "hydra/sweeper=optuna", "halving=successive", f"trainer.max_epochs={EPOCHS}",
        f"hydra.sweeper.n_trials={TRIALS}", f"seed={seed}",
        f"optimizer.lr=tag(log, interval({RATE[0]}, {RATE[1]}))",
        f"optimizer.momentum=interval({MOMENTUM[0]}, {MOMENTUM[1]})",
        f"optimizer.weight_decay=tag(log, interval({DECAY[0]}, {DECAY[1]}))",
        *arguments,
    ]  # fmt: skip


def measure(name: str, seed: int) -> dict[str, Any]:
    """Return seconds of a search's command, and the accuracy that it had after each epoch of a
    candidate.
    """
    if name in OURS:
        command = ours(seed, OURS[name])
    else:
        command = [sys.executable, "-m", "benchmarks.search.rivals", name, str(seed)]
    with TemporaryDirectory() as folder, TemporaryFile("w+") as said:
        began = time.time()
        process = subprocess.Popen(
            command, cwd=folder, env=environment(), stdout=said, stderr=subprocess.STDOUT
        )
        epochs = watched(process, Path(folder) / "outputs" / "sweeps" / "s") if name in OURS else []
        process.wait()
        seconds = time.time() - began
        said.seek(0)
        text = said.read()
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)} failed: {text[-2000:]}")
        if name not in OURS:
            epochs = [json.loads(line) for line in text.splitlines() if line.startswith("[")]
    return {
        "name": name,
        "seed": seed,
        "seconds": round(seconds, 2),
        "epochs": [[round(at - began, 2), accuracy] for at, accuracy in sorted(epochs)],
    }


def watched(process: subprocess.Popen[bytes], sweep: Path) -> list[tuple[float, float]]:
    """Return when the epochs of a sweep's trials were there in their metrics.csv, looked at every
    second, and their accuracies.
    """
    epochs: list[tuple[float, float]] = []
    seen: Counter[Path] = Counter()
    ended = False
    while not ended:
        ended = process.poll() is not None
        for file in sweep.glob("*/metrics.csv"):
            rows = read_rows(file)[seen[file] :]
            seen[file] += len(rows)
            epochs += [(time.time(), row["val/acc"]) for row in rows]
        time.sleep(1)
    return epochs


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--searches", nargs="+", default=[*OURS, *RIVALS], help="names of searches")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3, 4, 5])
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder of raw/ and RESULTS.md")
    options = parser.parse_args()
    if "DATA_ROOT" not in os.environ:
        parser.error("DATA_ROOT must be set: accuracies on random images say nothing")
    device = hardware()
    file = options.output / "raw" / f"search-{device.partition(' ')[0].partition(':')[0]}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    runs = json.loads(file.read_text(encoding="utf-8"))["searches"] if file.exists() else []
    for seed in options.seeds:
        for name in options.searches:
            before = others()
            run = measure(name, seed) | {"others": before}
            best = max(accuracy for _, accuracy in run["epochs"])
            print(
                f"{run['seconds']:8.1f} s {len(run['epochs']):5d} epochs {best:.4f}  {name}, "
                f"seed {seed}",
                flush=True,
            )
            runs = [old for old in runs if (old["name"], old["seed"]) != (name, seed)] + [run]
            result = {
                "date": time.strftime("%Y-%m-%d"),
                "git": git_commit(),
                "hardware": device,
                "versions": versions(),
                "searches": runs,
            }
            file.write_text(json.dumps(result) + "\n", encoding="utf-8")
    draw(runs, options.output / "search.png")
    write_report(options.output)


if __name__ == "__main__":
    main()
