"""Where a stack is trained, and in which number format its products are taken."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from latentops.architectures.convolutions import Convolution, TransposedConvolution
from latentops.config import Precision
from latentops.errors import ConfigError


def select_device(name: str) -> torch.device:
    """The device that `training.device` names; `auto` is the GPU where there is one.

    Raises `ConfigError` where a GPU is asked for and torch sees none.
    """
    os.environ.setdefault(
        "CUBLAS_WORKSPACE_CONFIG", ":4096:8"
    )  # else a GPU may add up otherwise another time
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("params.yaml: training.device: cuda, but torch sees no GPU; use cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def convolved(model: nn.Module, device: torch.device) -> dict[str, str]:
    """How each convolution goes over the members, by name: `grouped`, `looped` or, on a GPU, `batched`."""
    return {
        name: "batched" if device.type == "cuda" else "looped" if layer.looped else "grouped"
        for name, layer in model.named_modules()
        if isinstance(layer, Convolution | TransposedConvolution)
    }


@contextmanager
def products(precision: Precision, model: nn.Module) -> Iterator[None]:
    """Take products in `precision`; numbers are kept, and sums made, in float32 either way.

    With `bf16` matrix products are taken in bfloat16 on the CPU and in TF32 on a GPU, convolutions in
    bfloat16 on both. With `float32` all are: torch's own default would be TF32 for convolutions on a GPU.
    What was set before is set again afterwards.
    """
    fine = precision == "float32"
    convolutions = [m for m in model.modules() if isinstance(m, Convolution | TransposedConvolution)]
    kinds = torch.backends.mkldnn.matmul, torch.backends.cuda.matmul, torch.backends.cudnn.conv  # type: ignore[attr-defined]
    wanted = ("ieee", "ieee", "ieee") if fine else ("bf16", "tf32", "tf32")
    before = [kind.fp32_precision for kind in kinds]
    for kind, each in zip(kinds, wanted, strict=True):
        kind.fp32_precision = each
    for layer in convolutions:
        layer.products = None if fine else torch.bfloat16
    try:
        yield
    finally:
        for kind, each in zip(kinds, before, strict=True):
            kind.fp32_precision = each
        for layer in convolutions:
            layer.products = None
