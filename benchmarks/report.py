"""RESULTS.md from the raw results: what the numbers are, on what, against what."""

import json
import math
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.task import PRODUCT_SIZE, VALIDATION

REFERENCE = "stacked engine"
SEARCH = "trialstack"

INTRODUCTION = """# Benchmark results

Seconds of an epoch, for one trial, with validation on 5,000 samples, batch 32, float32. The engines
and Lightning also write TensorBoard logs and checkpoints. Times are medians with the lowest and the
highest; ratios are medians of the ratios within a round, in which every rival trains one epoch.
"Arithmetic" is the time that the epoch's matrix products would take at the rate of a {size}³
float32 product, which is measured in every round too. Written by `make bench`; raw numbers in
`raw/`.
"""


def write_report(folder: Path) -> None:
    """Write `RESULTS.md` from all of `raw/*.json` in `folder`."""
    parts = [INTRODUCTION.format(size=PRODUCT_SIZE)]
    for file in sorted((folder / "raw").glob("*.json")):
        result = json.loads(file.read_text(encoding="utf-8"))
        kind = next((name for name in SECTIONS if name in result), "task")
        parts.append(SECTIONS[kind](result))
    (folder / "RESULTS.md").write_text("\n".join(parts))


def section(result: dict[str, Any]) -> str:
    """Return the section of one network on one machine."""
    task, rates = result["task"], result["flop_per_second"]
    arithmetic = [task["flop"] / rate for rate in rates]
    reference = next((r["seconds"] for r in result["rivals"] if r["name"] == REFERENCE), None)
    shape = "-".join(map(str, (784, *task["hidden"], 10)))
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    lines = [
        f"## {task['name']}: {shape}, {task['optimizer']}, dropout {task['dropout']}",
        "",
        f"{_machine(result)}; {result['data']}, {task['samples'] - VALIDATION:,} training samples; "
        f"{result['date']}, "
        f"commit {(result['git'] or '')[:12]}; {versions}.",
        "",
        f"`{result['command']}`: epochs measured: {len(rates)}, after {result['warmup']} of "
        "warm-up. "
        f"Products at {median(rates) / 1e9:.0f} GFLOP/s ({min(rates) / 1e9:.0f} to "
        f"{max(rates) / 1e9:.0f}); "
        f"arithmetic is {task['flop'] / 1e9:.1f} GFLOP, {median(arithmetic):.3f} s.",
        "",
        "| rival | s/epoch | lowest to highest | / stacked engine | / arithmetic | peak memory, "
        "GiB |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for rival in sorted(result["rivals"], key=lambda rival: -median(rival["seconds"])):
        seconds = rival["seconds"]
        to_reference = f"{paired(seconds, reference):.2f}" if reference else ""
        lines.append(
            f"| {rival['name']} | {median(seconds):.3f} | {min(seconds):.3f} to {max(seconds):.3f} "
            f"| {to_reference} | "
            f"{paired(seconds, arithmetic):.2f} | {rival['peak_gib']:.1f} |"
        )
    return "\n".join([*lines, ""])


def _machine(result: dict[str, Any]) -> str:
    """The hardware, and what else ran on it."""
    before, after = result.get("others", (None, None))
    load = "" if after is None else f", of which others held {before} before and {after} after"
    return f"{result['hardware']}{load}"


def sweeps_section(result: dict[str, Any]) -> str:
    """Return the section of whole sweeps on one machine."""
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    lines = [
        "## Sweeps of mlp300 on Fashion-MNIST, whole commands",
        "",
        f"{_machine(result)}; {result['date']}, commit {(result['git'] or '')[:12]}; {versions}.",
        "",
        "Seconds of the command, and of these of its trials' training, validation, logs and "
        "checkpoints while they "
        "train, and tests; the rest is start-up, composition, folders and the leaderboard.",
        "",
        "| sweep | trials | command, s | training | validation | logging | checkpoints | test | "
        "peak memory, GiB |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, sweep in result["sweeps"].items():
        parts = [
            f"{sweep['parts'][part]:.1f}"
            for part in ("training", "validation", "logging", "checkpoints", "test")
        ]
        lines.append(
            f"| {name} | {sweep['trials']} | {sweep['seconds']:.1f} | {' | '.join(parts)} | "
            f"{sweep['peak_gib']:.2f} |"
        )
    lines += [
        "",
        *(
            f"- {name}: `-m model=mlp300 data=fashion {sweep['command']}`"
            for name, sweep in result["sweeps"].items()
        ),
    ]
    return "\n".join([*lines, ""])


def checks_section(result: dict[str, Any]) -> str:
    """Return the section of `python -m benchmarks.gpu` on one device."""
    words = {True: "passed", False: "FAILED", None: ""}
    lines = [
        "## Checks of a device",
        "",
        f"{result['hardware']}; {result['date']}, commit {(result['git'] or '')[:12]}.",
        "",
        f"`{result['command']}`",
        "",
        "| check | | seconds | |",
        "| --- | --- | --- | --- |",
        *(
            f"| {check['name']} | {words[check['passed']]} | {check['seconds']:.1f} | "
            f"{check['says']} |"
            for check in result["checks"]
        ),
    ]
    return "\n".join([*lines, ""])


def searches_section(result: dict[str, Any]) -> str:
    """Return the section of searches on one machine."""
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    by_name: dict[str, list[dict[str, Any]]] = {}
    for run in result["searches"]:
        by_name.setdefault(run["name"], []).append(run)
    ours = {run["seed"]: run for run in by_name.get(SEARCH, [])}
    lines = [
        "## Searches for SGD's settings of mlp300 on Fashion-MNIST, whole commands",
        "",
        f"{result['hardware']}; {result['date']}, commit {(result['git'] or '')[:12]}; {versions}.",
        "",
        "64 candidates of at most 16 epochs with rungs at epochs 1 and 4 and a factor of 4, "
        "`python -m benchmarks.search`; learning rate (logarithmic, 0.001 to 1), momentum (0 to "
        "0.99), weight decay (logarithmic, 1e-6 to 0.01). The rivals train with a loop in PyTorch, "
        "in memory, with its fused SGD. Medians over the seeds; the range is that of the "
        "accuracies in validation. Ours reaches a rival's accuracy after so many seconds, in the "
        "median of the seeds that both have; a curve is of the best accuracy so far (search.png). "
        "An epoch of ours counts when metrics.csv has it.",
        "",
        "| search | seeds | command, s | epochs of trials | best val/acc | lowest to highest | "
        "ours reaches that after, s | part of the rival's time |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, runs in by_name.items():
        bests = [max(accuracy for _, accuracy in run["epochs"]) for run in runs]
        reached, parts = [], []
        for run, best in zip(runs, bests, strict=True):
            if name != SEARCH and run["seed"] in ours:
                epochs = ours[run["seed"]]["epochs"]
                after = next((at for at, accuracy in epochs if accuracy >= best), math.inf)
                reached.append(after)
                parts.append(after / run["seconds"])
        compared = f"{_seconds(median(reached))} | {_part(median(parts))}" if reached else " | "
        lines.append(
            f"| {name} | {len(runs)} | {median(run['seconds'] for run in runs):.0f} | "
            f"{median(len(run['epochs']) for run in runs):.0f} | {median(bests):.4f} | "
            f"{min(bests):.4f} to {max(bests):.4f} | {compared} |"
        )
    return "\n".join([*lines, ""])


def scaling_section(result: dict[str, Any]) -> str:
    """Return the section of sweeps on many workers, which are simulated."""
    measured = result["measured"]
    alone: dict[int, float] = {}
    lines = [
        "## Sweeps of mlp300 on Fashion-MNIST on many workers: simulated",
        "",
        f"{_machine(result)}; {result['date']}, commit {(result['git'] or '')[:12]}.",
        "",
        "No such cluster was there: `python -m benchmarks.scaling` has the sweep's own plan divide "
        f"trials of {result['epochs']} epochs, which differ in their seeds, among workers of 2 "
        "cores each, and adds up what was measured: an epoch's seconds by size of a stack (above, "
        f"on {result['bench']}), {measured['first']:.1f} s until the first result of a worker of "
        f"Ray, {measured['each']:.2f} s for each stack after that, of which the smallest stack "
        f"itself took {measured['stack']:.2f} (200 stacks of one trial and 64 steps on two workers "
        f"of a core each: {measured['seconds']:.0f} s). What files take on storage that many share "
        "is not in it, nor is a GPU: none has been measured.",
        "",
        "| trials | workers | stacks | seconds | faster than one worker | of what is possible |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for trials, workers, stacks, seconds in result["scaling"]:
        alone.setdefault(trials, seconds)
        faster = alone[trials] / seconds
        lines.append(
            f"| {trials:,} | {workers} | {stacks} | {seconds:.0f} | {faster:.1f} | "
            f"{faster / min(workers, trials):.0%} |"
        )
    return "\n".join([*lines, ""])


def _seconds(seconds: float) -> str:
    return f"{seconds:.0f}" if math.isfinite(seconds) else "never"


def _part(part: float) -> str:
    return f"{part:.2f}" if math.isfinite(part) else ""


SECTIONS = {
    "sweeps": sweeps_section,
    "checks": checks_section,
    "searches": searches_section,
    "scaling": scaling_section,
    "task": section,
}
"""By what a raw result has."""


def paired(seconds: list[float], others: list[float]) -> float:
    """Return the median of the ratios within rounds."""
    return median(one / other for one, other in zip(seconds, others, strict=True))
