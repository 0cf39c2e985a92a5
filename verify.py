"""Train one trial of a sweep by itself and compare: `python verify.py trial=FOLDER`."""

from trialstack.cli.verify import main

if __name__ == "__main__":
    main()  # an @hydra.main, by which Hydra knows scripts whose arguments it completes
