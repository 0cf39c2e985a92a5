"""Classify images with a run's best checkpoint: `python predict.py run=FOLDER index=[0,1,2]`."""

from trialstack.cli.predict import main

if __name__ == "__main__":
    main()  # an @hydra.main, by which Hydra knows scripts whose arguments it completes
