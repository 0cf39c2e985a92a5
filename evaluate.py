"""Measure a run's best checkpoint on its test set, or with `split=val` on its validation set."""

from trialstack.cli.evaluate import main

if __name__ == "__main__":
    main()  # an @hydra.main, by which Hydra knows scripts whose arguments it completes
