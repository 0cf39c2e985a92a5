"""Train a network: `python train.py model=mlp300 data=fashion`."""

from trialstack.cli.train import main

if __name__ == "__main__":
    main()  # an @hydra.main, by which Hydra knows scripts whose arguments it completes
