"""Classify images with a run's best checkpoint: `python predict.py run=FOLDER index=[0,1,2]`."""

from pathlib import Path

from omegaconf import DictConfig

from trialstack.cli.command import command
from trialstack.cli.folder_arguments import requested_run
from trialstack.cli.request import as_list, check_request


@command("predict")
def main(config: DictConfig) -> None:
    folder = requested_run(config)
    check_request(config)
    import torch

    from trialstack.data.image_files import read_image
    from trialstack.run import prediction, restore
    from trialstack.run.devices import pick_device

    device = pick_device(config.accelerator)
    classifier = restore.best_classifier(folder)
    files, labels = as_list(config.images), None
    if files:
        names = files
        pixels = [read_image(Path(file), classifier.spec.shape, config.invert) for file in files]
        images = classifier.spec.normalize(torch.stack(pixels))
    else:
        samples = restore.load_data(folder, config.data.root).test_samples
        numbers = prediction.sample_numbers(as_list(config.index), len(samples.labels))
        names = [str(number) for number in numbers]
        images, labels = samples.images[numbers], samples.labels[numbers].tolist()
    predictions = prediction.predict(classifier, names, images.to(device), labels)
    print(prediction.predictions_table(predictions))
    print(f"\n{prediction.summary_line(predictions)}")
    if config.output:
        prediction.write(predictions, Path(config.output))
        print(f"written: {config.output}")
