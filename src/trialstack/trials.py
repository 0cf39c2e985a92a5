"""Trials from Python, by its short name."""

from trialstack.run.trial import Trial, compose_trial, resume_trial

__all__ = ["Trial", "compose_trial", "resume_trial"]
