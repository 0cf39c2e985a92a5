"""Proves or refutes on a GPU what is claimed of one: `make gpu`, or `python -m benchmarks.gpu
--help`.

Every check is a line, PASS or FAIL; what it measured goes to benchmarks/raw/gpu-DEVICE.json and
into RESULTS.md. It needs no network; without a dataset in `DATA_ROOT` images are random.
"""

import argparse
import json
import shlex
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.bench import FOLDER
from benchmarks.gpu import commands, environment, equality, fits, memory, speed
from benchmarks.gpu.check import Finding, Where
from benchmarks.report import write_report
from trialstack.run.devices import device_name
from trialstack.run.result import git_commit

CHECKS: dict[str, Callable[[Where], Finding]] = {
    "environment": environment.environment,
    "replayed is called": equality.replayed_is_called,
    "nothing waits": equality.nothing_waits,
    "twice the same": equality.twice_the_same,
    "alone is in a stack": equality.alone_is_in_a_stack,
    "a run": commands.one_run,
    "resumed is whole": fits.resumed_is_whole,
    "another device": fits.goes_on_on_another_device,
    "allocated is said": memory.allocated_is_said,
    "stacks in turn": memory.stacks_one_after_another,
    "out of memory": memory.out_of_memory,
    "kernels": speed.kernels,
    "microseconds": speed.microseconds,
    "bandwidth": environment.bandwidth,
    "products": environment.products,
    "tests": commands.gpu_tests,
    "article": commands.article,
    "rivals": commands.rivals,
    "sweeps": commands.whole_sweeps,
}
"""In this order; none begins once the time is up."""

WORDS = {True: "PASS", False: "FAIL", None: "-"}


def measure(
    checks: dict[str, Callable[[Where], Finding]], device: torch.device, minutes: float
) -> list[dict[str, Any]]:
    """Run the checks and print a line of each."""
    began, done = time.monotonic(), []
    for name, check in checks.items():
        started = time.monotonic()
        if started - began > 60 * minutes:
            finding = Finding(None, f"not begun after {minutes:g} minutes")
        else:
            finding = _found(check, device)
        seconds = time.monotonic() - started
        print(f"{WORDS[finding.passed]:4} {seconds:6.1f} s  {name}: {finding.says}", flush=True)
        done.append({"name": name, "seconds": round(seconds, 2), **finding._asdict()})
    return done


def _found(check: Callable[[Where], Finding], device: torch.device) -> Finding:
    with TemporaryDirectory() as folder:
        try:
            return check(Where(device, Path(folder)))
        except Exception as error:  # is what the check found
            text = " ".join(str(error).split())
            trace = {"traceback": traceback.format_exc()}
            return Finding(False, f"{type(error).__name__}: {text[:300]}", trace)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument(
        "--only", nargs="*", choices=CHECKS, metavar="CHECK", help=", ".join(CHECKS)
    )
    parser.add_argument("--minutes", type=float, default=9, help="after which no check begins")
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder of raw/ and RESULTS.md")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit("torch finds no GPU; --device cpu checks what does not need one")
    device = torch.device("cuda", torch.cuda.current_device()) if options.device == "cuda" else None
    device = device or torch.device("cpu")
    chosen = options.only or list(CHECKS)
    checks = measure({name: CHECKS[name] for name in chosen}, device, options.minutes)
    result = {
        "date": time.strftime("%Y-%m-%d"),
        "git": git_commit(),
        "hardware": device_name(device),
        "command": shlex.join(["python", "-m", "benchmarks.gpu", *sys.argv[1:]]),
        "checks": checks,
    }
    file = options.output / "raw" / f"gpu-{device.type}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    write_report(options.output)
    failed = [check["name"] for check in checks if check["passed"] is False]
    passed = sum(check["passed"] is True for check in checks)
    print(f"{passed} passed, {len(failed)} failed; numbers in {file}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
