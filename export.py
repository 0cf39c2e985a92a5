"""Export a run's best weights for other programs: `python export.py run=FOLDER format=onnx`."""

from trialstack.cli.export import main

if __name__ == "__main__":
    main()  # an @hydra.main, by which Hydra knows scripts whose arguments it completes
