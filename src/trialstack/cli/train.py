"""Train a network: `python train.py model=mlp300 data=fashion`."""

import math
import sys

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from trialstack.cli.command import command, trains_jobs_with
from trialstack.cli.folder_arguments import resume_in_place
from trialstack.run.folder import resumable
from trialstack.run.status import Status
from trialstack.run.trial import composed_trial
from trialstack.sweep.sweep import sweep


@command("train", resume_in_place)
@trains_jobs_with(sweep)
def main(config: DictConfig) -> float:
    trial = composed_trial(config)
    with resumable(trial.folder, is_new=not trial.resume):
        from trialstack.run.train import train  # torch, from here on

        [result] = train([trial])
    if result.status == Status.DIVERGED and HydraConfig.get().mode == RunMode.RUN:
        sys.exit(1)
    return math.nan if result.objective is None else result.objective
