"""Export a run's best weights for other programs: `python export.py run=FOLDER format=onnx`."""

from pathlib import Path

from omegaconf import DictConfig

from trialstack.cli.command import command, end
from trialstack.cli.folder_arguments import requested_run
from trialstack.cli.request import check_export
from trialstack.core import layout


@command("export")
def main(config: DictConfig) -> None:
    folder = requested_run(config)
    check_export(config)
    from trialstack.run.export import Differs, export  # torch, from here on

    file = Path(config.output or folder / layout.EXPORTED[config.format])
    try:
        found = export(folder, config.format, file, config.data.root)
    except Differs as error:
        end(str(error), 1)
    print(
        f"probabilities of the test set differ from the checkpoint's by {found.difference:.2e} at "
        f"most; bound: {found.bound:.2e}"
    )
    print(f"written: {file}")
