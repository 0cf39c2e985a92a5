"""What lies where: paths in a run folder, and the index in a sweep's."""

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
EVALUATION = Path("evaluation.json")
EVALUATION_PICTURE = Path("evaluation.png")
LOCK = Path(".lock")

INDEX = Path("sweep.json")
"""In the folder of a sweep, of which the run folders are below it."""
