"""Train one trial of a sweep by itself and compare: `python verify.py trial=FOLDER`."""

import sys

from omegaconf import DictConfig

from trialstack.cli.command import command
from trialstack.cli.folder_arguments import requested_run

MUCH = 0.01
"""Bound on the relative difference of weights that says little."""


@command("verify")
def main(config: DictConfig) -> None:
    folder = requested_run(config, "trial")
    from trialstack.sweep.verify import verify  # torch, from here on

    found = verify(folder, config.data.root)
    in_stack, alone = found.statuses
    print(f"{folder}: {in_stack} in a stack of {found.stack_size}, {alone} alone")
    for compared in (found.weights, found.metrics):
        print(
            f"{compared.name} differ by {compared.difference:.2e} at most; bound: "
            f"{compared.bound:.2e}"
        )
    in_stack_epochs, alone_epochs = found.epochs
    if in_stack_epochs != alone_epochs:
        print(f"it ended after epoch {in_stack_epochs} in its stack, {alone_epochs} alone")
    if not found.holds and found.decided_by_rounding:
        print(
            "rounding decides what becomes of this trial, so it cannot be compared; "
            "trainer.precision=64-true would show more"
        )
        sys.exit(1)
    if not found.holds:
        print("more than rounding: this is a defect, or the code or data has changed")
        sys.exit(1)
    print("within rounding")
    if found.weights.bound > MUCH:
        print(
            "rounding makes much of a difference to this trial; trainer.precision=64-true would "
            "make it small"
        )
