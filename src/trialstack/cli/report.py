"""Show what has come out of a sweep so far: `python report.py sweep=NAME`."""

from omegaconf import DictConfig

from trialstack.cli.command import command
from trialstack.cli.folder_arguments import requested_sweep


@command("report")
def main(config: DictConfig) -> None:
    folder = requested_sweep(config)
    from trialstack.sweep.report import report_sweep  # matplotlib, from here on

    report_sweep(folder)
