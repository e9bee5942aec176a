"""Where a stack is trained."""

import torch

from latentops.errors import ConfigError


def select_device(name: str) -> torch.device:
    """The device that `training.device` names; `auto` is the GPU where there is one.

    Raises `ConfigError` where a GPU is asked for and torch sees none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("params.yaml: training.device: cuda, but torch sees no GPU; use cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
