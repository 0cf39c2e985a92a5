"""Train a network: `python train.py model=mlp300 data=fashion`."""

import math
import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from trialstack.cli.command import exit_codes, run, trains_jobs_with
from trialstack.cli.folder_arguments import resume_in_place
from trialstack.run.folder import resumable
from trialstack.run.status import Status
from trialstack.run.trial import composed_trial
from trialstack.sweep.sweep import sweep


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
@trains_jobs_with(sweep)
@exit_codes
def main(config: DictConfig) -> float:
    trial = composed_trial(config)
    with resumable(trial.folder, is_new=not trial.resume):
        from trialstack.run.train import train  # torch, from here on

        [result] = train([trial])
    if result.status == Status.DIVERGED and HydraConfig.get().mode == RunMode.RUN:
        sys.exit(1)
    return math.nan if result.objective is None else result.objective


if __name__ == "__main__":
    run(main, resume_in_place)
