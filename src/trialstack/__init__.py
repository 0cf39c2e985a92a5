"""trialstack: PyTorch Lightning experiments, composed by Hydra. Importing it loads neither torch nor lightning."""

from omegaconf import OmegaConf

from trialstack.objective import direction

__version__ = "0.1.0"

OmegaConf.register_new_resolver("direction", direction, replace=True)
OmegaConf.register_new_resolver("either", lambda value, default: default if value is None else value, replace=True)
