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
    from trialstack.run import prediction  # torch, from here on
    from trialstack.run.trained import predict

    predictions = predict(
        folder,
        as_list(config.index),
        as_list(config.images),
        root=config.data.root,
        accelerator=config.accelerator,
        invert=config.invert,
    )
    print(prediction.predictions_table(predictions))
    print(f"\n{prediction.summary_line(predictions)}")
    if config.output:
        prediction.write(predictions, Path(config.output))
        print(f"written: {config.output}")
