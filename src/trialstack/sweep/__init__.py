"""Many trials: which there are, in which order they train, and what came out."""
