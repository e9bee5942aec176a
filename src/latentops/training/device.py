"""Where a stack is trained, and in which number format its products are taken."""

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
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("params.yaml: training.device: cuda, but torch sees no GPU; use cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def ways(model: nn.Module) -> dict[str, str]:
    """How each convolution goes over the members, by its name: `grouped` or `looped`."""
    return {
        name: "looped" if layer.looped else "grouped"
        for name, layer in model.named_modules()
        if isinstance(layer, Convolution | TransposedConvolution)
    }


@contextmanager
def products(precision: Precision, model: nn.Module) -> Iterator[None]:
    """Take products in `precision`; numbers are kept, and sums made, in float32 either way.

    With `bf16` matrix products are taken in bfloat16 on the CPU and in TF32 on a GPU, convolutions in
    bfloat16 on both. What was set before is set again afterwards.
    """
    if precision == "float32":
        yield
        return
    convolutions = [m for m in model.modules() if isinstance(m, Convolution | TransposedConvolution)]
    on_cpu = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    on_gpu = torch.backends.cuda.matmul
    before = on_cpu.fp32_precision, on_gpu.fp32_precision
    on_cpu.fp32_precision, on_gpu.fp32_precision = "bf16", "tf32"
    for layer in convolutions:
        layer.products = torch.bfloat16
    try:
        yield
    finally:
        on_cpu.fp32_precision, on_gpu.fp32_precision = before
        for layer in convolutions:
            layer.products = None
