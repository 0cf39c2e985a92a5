"""Show what has come out of a sweep so far: `python report.py sweep=NAME`."""

import hydra
from omegaconf import DictConfig

from trialstack.cli.command import exit_codes, run
from trialstack.cli.folder_arguments import requested_sweep


@hydra.main(version_base="1.3", config_path="conf", config_name="report")
@exit_codes
def main(config: DictConfig) -> None:
    folder = requested_sweep(config)
    from trialstack.sweep.report import report_sweep  # matplotlib, from here on

    report_sweep(folder)


if __name__ == "__main__":
    run(main)
