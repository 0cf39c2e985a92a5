"""What every other package builds on: rules of configs, errors, files, random streams. No torch."""
