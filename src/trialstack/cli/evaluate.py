"""Measure a run's best checkpoint on its test set, or with `split=val` on its validation set."""

import json
import sys

from omegaconf import DictConfig

from trialstack.cli.command import command
from trialstack.cli.folder_arguments import requested_run
from trialstack.cli.request import check_request
from trialstack.core import layout
from trialstack.core.errors import cannot_write


@command("evaluate")
def main(config: DictConfig) -> None:
    folder = requested_run(config)
    check_request(config)
    from trialstack.core.atomic_files import replaced
    from trialstack.run import figures, restore, tables  # torch, from here on
    from trialstack.run.devices import pick_device
    from trialstack.run.evaluation import evaluate

    device = pick_device(config.accelerator)
    classifier = restore.best_classifier(folder)
    data = restore.load_data(folder, config.data.root)
    samples = data.test_samples if config.split == "test" else data.val_samples
    evaluation = evaluate(classifier, samples.to(device))
    names = classifier.spec.class_names
    print(tables.evaluation_tables(evaluation, names))
    values, picture = (folder / file for file in layout.EVALUATIONS[config.split])
    try:
        with replaced(values) as file:
            file.write_text(
                json.dumps(evaluation.primitives(names), indent=2) + "\n", encoding="utf-8"
            )
        figures.save(figures.confusion_figure(evaluation.confusion, names), picture)
    except OSError as error:  # what was asked for is shown: exit code 0
        print(cannot_write(error, folder), file=sys.stderr)
        return
    print(f"\nwritten: {values}, {picture}")
