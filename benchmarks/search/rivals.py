"""Searches around a loop in PyTorch: `python -m benchmarks.search.rivals NAME SEED`.

Each prints a line for every epoch of a candidate: when it was done (seconds since 1970), and its
accuracy.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.search.space import (
    DECAY,
    EPOCHS,
    FACTOR,
    MOMENTUM,
    RATE,
    RUNGS,
    TRIALS,
    Candidate,
    random_candidates,
)


def report(accuracy: float) -> None:
    print(json.dumps([time.time(), accuracy]), flush=True)


def halved(seed: int, rungs: tuple[int, ...] = RUNGS, factor: int = FACTOR) -> None:
    """Random candidates one after another, of which the best 1/factor go on at every rung."""
    from benchmarks.search.training import Training

    alive = [Training(candidate, seed) for candidate in random_candidates(TRIALS, seed)]
    done = 0
    for until in (*rungs, EPOCHS):
        scores = {}
        for training in alive:
            for _ in range(until - done):
                scores[training] = training.epoch()
                report(scores[training])
        alive = sorted(alive, key=lambda training: -scores[training])[: len(alive) // factor]
        done = until


def best_after_an_epoch(seed: int) -> None:
    """Random candidates, of which the best 4 after an epoch train to the end."""
    halved(seed, rungs=(1,), factor=TRIALS // 4)


def optuna_search(seed: int, pruner: Any) -> None:
    """TPE with a pruner, one trial after another."""
    import optuna

    from benchmarks.search.training import Training

    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def objective(trial: optuna.Trial) -> float:
        candidate = Candidate(
            trial.suggest_float("lr", *RATE, log=True),
            trial.suggest_float("momentum", *MOMENTUM),
            trial.suggest_float("weight_decay", *DECAY, log=True),
        )
        training, best = Training(candidate, seed), 0.0
        for epoch in range(1, EPOCHS + 1):
            accuracy = training.epoch()
            best = max(best, accuracy)
            report(accuracy)
            trial.report(accuracy, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
        return best

    sampler = optuna.samplers.TPESampler(seed=seed)
    study = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)
    study.optimize(objective, n_trials=TRIALS)


def optuna_halving(seed: int) -> None:
    from optuna.pruners import SuccessiveHalvingPruner

    optuna_search(seed, SuccessiveHalvingPruner(min_resource=1, reduction_factor=FACTOR))


def optuna_hyperband(seed: int) -> None:
    from optuna.pruners import HyperbandPruner

    optuna_search(
        seed, HyperbandPruner(min_resource=1, max_resource=EPOCHS, reduction_factor=FACTOR)
    )


def ray_asha(seed: int) -> None:
    """Ray Tune's ASHA over random candidates, with two workers of a core each."""
    os.environ |= {"RAY_AIR_NEW_OUTPUT": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    import ray
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler

    def on_trial_result(
        self: Any, iteration: int, trials: Any, trial: Any, result: dict[Any, Any], **info: Any
    ) -> None:
        report(result["accuracy"])

    reporter = type("Reporter", (tune.Callback,), {"on_trial_result": on_trial_result})()

    def train(config: dict[str, Any]) -> None:
        import torch

        from benchmarks.search.training import Training

        torch.set_num_threads(1)
        training = Training(Candidate(**config), seed)
        for _ in range(EPOCHS):
            tune.report({"accuracy": training.epoch()})

    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    tune.Tuner(
        tune.with_resources(train, {"cpu": 1}),
        param_space={
            "lr": tune.loguniform(*RATE),
            "momentum": tune.uniform(*MOMENTUM),
            "weight_decay": tune.loguniform(*DECAY),
        },
        tune_config=tune.TuneConfig(
            metric="accuracy",
            mode="max",
            num_samples=TRIALS,
            search_alg=tune.search.BasicVariantGenerator(random_state=seed),
            scheduler=ASHAScheduler(max_t=EPOCHS, grace_period=1, reduction_factor=FACTOR),
        ),
        run_config=tune.RunConfig(storage_path=os.getcwd(), callbacks=[reporter], verbose=0),
    ).fit()


RIVALS: dict[str, Callable[[int], None]] = {
    "loop, halving": halved,
    "loop, best 4 after an epoch": best_after_an_epoch,
    "Optuna, TPE and SuccessiveHalvingPruner": optuna_halving,
    "Optuna, TPE and HyperbandPruner": optuna_hyperband,
    "Ray Tune, ASHA, 2 workers": ray_asha,
}

if __name__ == "__main__":
    RIVALS[sys.argv[1]](int(sys.argv[2]))
