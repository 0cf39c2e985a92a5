"""RESULTS.md from the raw results: what the numbers are, on what, against what."""

import json
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.task import PRODUCT_SIZE, VALIDATION

REFERENCE = "stacked engine"

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


SECTIONS = {"sweeps": sweeps_section, "checks": checks_section, "task": section}
"""By what a raw result has."""


def paired(seconds: list[float], others: list[float]) -> float:
    """Return the median of the ratios within rounds."""
    return median(one / other for one, other in zip(seconds, others, strict=True))
