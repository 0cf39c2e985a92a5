"""What commands give, to the last bit, written to a file: so that a change of structure shows what
else it changes.

    python -m tests.corpus before.json     # on the commit before
    python -m tests.corpus after.json      # on the commit after
    diff before.json after.json

With DATA_ROOT the articles are there too. A name says what is trained, a hash what came out: all
weights, metrics.csv without seconds, result.json without times and versions, leaderboards, standard
error and exit codes.
"""

import csv
import hashlib
import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

import trialstack.run.train  # noqa: F401  # what commands import, so that their forks need not
from tests.conftest import ROOT
from tests.forked import Forked

SMALL = ("model.hidden=[16,12]", "trainer.max_epochs=3", "callbacks=none")
RUN = ("hydra.run.dir=a",)
CASES: dict[str, list[tuple[str, ...]]] = {
    f"{engine} {precision} {name}": [
        ("train.py", *SMALL, *RUN, f"engine={engine}", f"trainer.precision={precision}", *overrides)
    ]
    for engine in ("stacked", "eager")
    for precision in ("32-true", "64-true")
    for name, overrides in {
        "plain": (),
        "momentum": ("optimizer.momentum=0.9", "optimizer.weight_decay=0.01"),
        "nesterov": (
            "optimizer.momentum=0.9",
            "optimizer.nesterov=true",
            "schedule=step",
            "schedule.step_size=1",
        ),
        "adam": (
            "optimizer=adam",
            "model.dropout=0.2",
            "schedule=cosine",
            "schedule.warmup_epochs=0.5",
        ),
        "adamw": ("optimizer=adamw", "model.activation=gelu", "schedule=onecycle"),
        "rmsprop": ("optimizer=rmsprop", "model.activation=silu", "schedule=exponential"),
        "adagrad": ("optimizer=adagrad", "model.activation=elu", "schedule=polynomial"),
        "early": (
            "callbacks=early_stopping",
            "callbacks.early_stopping.patience=1",
            "optimizer.lr=0.0",
        ),
        "diverging": ("optimizer.lr=1e30",),
    }.items()
}
SWEEP = (
    "train.py",
    "-m",
    "sweep=s",
    "callbacks=none",
    "trainer.max_epochs=2",
    "trainer.limit_train_batches=20",
)
CASES |= {
    "a mixed sweep": [
        (
            *SWEEP,
            "model.hidden=[16],[12,8]",
            "optimizer=sgd,adam",
            "schedule=constant,cosine",
            "seed=1,2",
        ),
        ("report.py", "sweep=s"),
        ("verify.py", "trial=outputs/sweeps/s/3"),
    ],
    "a sweep with a diverging trial, extended": [
        (
            *SWEEP,
            "model.hidden=[16]",
            "optimizer.lr=0.1,1e30",
            "optimizer.momentum=0.0,0.9",
            "seed=1,2",
        ),
        (
            *SWEEP,
            "model.hidden=[16]",
            "optimizer.lr=0.1,1e30,0.3",
            "optimizer.momentum=0.0,0.9",
            "seed=1,2",
        ),
    ],
    "a sweep whose trials are of two engines": [
        (*SWEEP, "model.hidden=[16]", "engine=stacked,eager", "seed=1,2")
    ],
    "a longer run": [
        ("train.py", *SMALL, *RUN),
        ("train.py", "resume=a", "trainer.max_epochs=5"),
        ("evaluate.py", "run=a"),
        ("predict.py", "run=a", "index=[0,1,2]"),
    ],
}
if os.environ.get("DATA_ROOT"):
    os.environ["DATA_ROOT"] = os.path.abspath(os.environ["DATA_ROOT"])
    for article in ("article_mnist", "article_fashion"):
        CASES[article] = [
            ("train.py", f"experiment={article}", "trainer.max_epochs=2", "callbacks=none", *RUN)
        ]
BAD = (
    "model.hidden=3", "model.hidden=[0]", "model.dropout=1.5", "model.init=magic",
    "model._target_=os.system", "optimizer.lr=-1", "optimizer.lr=fast", "optimizer.lr=1e308",
    "optimizer.momentun=0.9", "optimizer.betas=[0,0]", "optimizer._target_=torch.optim",
    "optimizer=null", "optimizer.nesterov=true", "+optimizer.maximize=maybe",
    "schedule.name=cosine", "schedule=onecyle", "schedule.warmup_epochs=50", "+schedule.warmup=1",
    "schedule=null", "trainer.max_epochs=0", "trainer.max_epochs=1.5", "trainer.accelerator=tpu",
    "trainer.devices=0", "trainer.precision=8", "trainer.max_time=60",
    "trainer.limit_train_batches=0", "+trainer.logger=true", "+trainer.callbacks=[]",
    "trainer.check_val_every_n_epoch=50", "data.batch_size=0", "data.val_size=60000",
    "data.normalize=maybe", "data=null", "~data", "data.root=/nowhere " "data=mnist",
    "+data.unknown=1", "engine.name=fast", "engine.steps_per_execution=0", "engine.max_stack=0",
    "+loss.label_smoothing=0.1", "+compile=true", "objective=val/f1", "seed=-1", "seed=one",
    "resume=nowhere", "folder=X", "logger=null", "callbacks=null", "callbacks.progress=null",
    "callbacks=early_stopping " "callbacks.early_stopping.monitor=val_loss",
    "callbacks=early_stopping " "callbacks.early_stopping.patience=-1", "sweep=s",
    "-m hydra.sweeper.max_batch_size=0", "-m " "seed=", "-m optimizer.lr=interval(0.1,1)",
    "retry=all -m seed=1", "on_error=ignore -m seed=1",
    "engine=stacked trainer.gradient_clip_val=1.0", "engine=stacked data.augment=[]", "--nonsense",
)  # fmt: skip


def hashed(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def read(path: Path) -> Any:
    """What is in a file, without times and what depends on them; None for files of which nothing
    else is left.
    """
    if path.suffix == ".ckpt":
        state = torch.load(path, weights_only=True)["state_dict"]
        return {
            name: hashlib.sha256(value.numpy().tobytes()).hexdigest()
            for name, value in state.items()
        }
    if path.name in ("metrics.csv", "leaderboard.csv"):
        return [row | {"seconds": ""} for row in csv.DictReader(path.read_text().splitlines())]
    if path.name == "result.json":
        result = json.loads(path.read_text())
        return {
            key: value for key, value in result.items() if key not in ("seconds", "versions", "git")
        }
    return path.read_text() if path.name in ("config.yaml", "sweep.json") else None


def record(commands: list[tuple[str, ...]]) -> dict[str, Any]:
    """Run commands, one after another, in a new folder."""
    with tempfile.TemporaryDirectory() as name:
        folder, said = Path(name, "there"), Path(name, "said")
        folder.mkdir()
        found: dict[str, Any] = {}
        for number, (script, *arguments) in enumerate(commands):
            (said / str(number)).mkdir(parents=True)
            running = Forked(ROOT / script, arguments, folder, said / str(number))
            _, err = running.communicate()
            found[f"{number} ended"] = [
                running.returncode,
                err.replace(name, "").replace(str(ROOT), ""),
            ]
        for path in sorted(folder.rglob("*")):
            if path.is_file() and "tfevents" not in path.name:
                without_time = re.sub(
                    r"\d{4}-\d\d-\d\d_[\d-]+", "TIME", str(path.relative_to(folder))
                )
                found[without_time] = hashed(read(path))
        return found


def main(file: Path) -> None:
    cases = CASES | {f"bad: {line}": [("train.py", *line.split())] for line in BAD}
    corpus = {}
    for name, commands in cases.items():
        print(name, flush=True)
        corpus[name] = record(commands)
    file.write_text(json.dumps(corpus, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
