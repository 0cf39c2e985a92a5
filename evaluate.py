"""Measure a run's best checkpoint on its test set: `python evaluate.py run=FOLDER`."""

import json
import sys

import hydra
from omegaconf import DictConfig

from trialstack.cli import exit_codes, run
from trialstack.errors import cannot_write
from trialstack.folders import EVALUATION, requested_run
from trialstack.request import check_request


@hydra.main(version_base="1.3", config_path="conf", config_name="evaluate")
@exit_codes
def main(config: DictConfig) -> None:
    folder = requested_run(config)
    check_request(config)
    from trialstack import figures, tables, trained  # torch, from here on
    from trialstack.atomic import replaced
    from trialstack.devices import pick_device
    from trialstack.evaluation import evaluate

    device = pick_device(config.accelerator)
    classifier = trained.best_classifier(folder)
    evaluation = evaluate(classifier, trained.load_data(folder, config.data.root).test_samples.to(device))
    names = classifier.spec.class_names
    print(tables.evaluation_tables(evaluation, names))
    values, picture = (folder / name for name in EVALUATION)
    try:
        with replaced(values) as file:
            file.write_text(json.dumps(evaluation.primitives(names), indent=2) + "\n", encoding="utf-8")
        figures.save(figures.confusion_figure(evaluation.confusion, names), picture)
    except OSError as error:  # what was asked for is shown: exit code 0
        print(cannot_write(error, folder), file=sys.stderr)
        return
    print(f"\nwritten: {values}, {picture}")


if __name__ == "__main__":
    run(main)
