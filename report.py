"""Show what has come out of a sweep so far: `python report.py sweep=NAME`."""

from trialstack.cli.report import main

if __name__ == "__main__":
    main()  # an @hydra.main, by which Hydra knows scripts whose arguments it completes
