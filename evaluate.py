"""Measure a run's best checkpoint on its test set: `python evaluate.py run=FOLDER`."""

import json

import hydra
from omegaconf import DictConfig

from trialstack.cli import exit_codes, run
from trialstack.folders import requested_run
from trialstack.rules import check_request


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
    with replaced(folder / "evaluation.json") as file:
        file.write_text(json.dumps(evaluation.primitives(names), indent=2) + "\n", encoding="utf-8")
    figures.save(figures.confusion_figure(evaluation.confusion, names), folder / "evaluation.png")
    print(f"\nwritten: {folder}/evaluation.json, {folder}/evaluation.png")


if __name__ == "__main__":
    run(main)
