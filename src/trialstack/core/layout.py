"""What lies where: paths in a run folder, and in that of a sweep."""

from pathlib import Path

HYDRA = Path(".hydra")
CONFIG = HYDRA / "config.yaml"
OVERRIDES = HYDRA / "overrides.yaml"
CHECKPOINTS = Path("checkpoints")
BEST = CHECKPOINTS / "best.ckpt"
LAST = CHECKPOINTS / "last.ckpt"
STACK = CHECKPOINTS / "stack.ckpt"
METRICS = Path("metrics.csv")
RESULT = Path("result.json")
LOG = Path("train.log")
LOG_BEFORE = Path("train.log.1")
HYPERPARAMETERS = Path("hparams.yaml")
CURVES = Path("history.png")
EVALUATIONS = {
    "test": (Path("evaluation.json"), Path("evaluation.png")),
    "val": (Path("evaluation-val.json"), Path("evaluation-val.png")),
}
WANDB = Path("wandb.json")
MLFLOW = Path("mlflow.json")
EXPORTED = {
    "onnx": Path("export/model.onnx"),
    "torch": Path("export/model.pt2"),
    "safetensors": Path("export/model.safetensors"),
}
"""By format."""
CSV = Path("csv")
WANDB_FILES = Path("wandb")
EVENTS = "events.out.tfevents.*"
LOCK = Path(".lock")
PROBE = Path(".probe")
WORKERS = Path(".workers")
JOBS = Path(".jobs.json")

OF_RUN = (
    HYDRA, CHECKPOINTS, METRICS, RESULT, LOG, LOG_BEFORE, HYPERPARAMETERS, CURVES, EVENTS,
    *(file for files in EVALUATIONS.values() for file in files), CSV, WANDB, WANDB_FILES, MLFLOW,
    EXPORTED["onnx"].parent, LOCK,
)  # fmt: skip
"""What is in a run folder, as patterns."""

INDEX = Path("sweep.json")
MULTIRUN = Path("multirun.yaml")
LEADERBOARD = Path("leaderboard.csv")
LEADERBOARD_TEXT = Path("leaderboard.md")
LEADERBOARD_PICTURE = Path("sweep.png")
MEAN_CURVES = Path("tensorboard")
EXPERIMENT = Path("experiment")
BEST_EXPERIMENT = EXPERIMENT / "best.yaml"
STUDY = Path("study.journal")
OPTIMIZATION_RESULTS = Path("optimization_results.yaml")
OF_SWEEP = (
    INDEX, MULTIRUN, LEADERBOARD, LEADERBOARD_TEXT, LEADERBOARD_PICTURE, MEAN_CURVES, EXPERIMENT,
)  # fmt: skip
"""What is in the folder of a sweep besides its trials."""
