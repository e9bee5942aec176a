"""Revival of dead units: what is never on gets no gradient, so training alone won't bring it back.

A dead unit is pointed at what the others reconstruct badly: a row is drawn with odds of its error squared,
and the unit's new weights are the direction from the mean row to that one, in what the layer reads, at the
living units' mean norm (Bricken et al. 2023, "Towards Monosemanticity", appendix "Neuron Resampling"). Or its
bias alone is raised. Either way the unit is then on for the rows that lie beyond the mean one in its
direction.

The decoder forgets what the unit stood for: its weights become zero, so that a revival changes no
reconstruction. With a learned variance an error that jumps is a blow from which the other units die in turn.
A decoder that is tied to the encoder has no weights to forget by: there a revived unit writes what it reads
from the first step on.
"""

from collections.abc import Iterable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from latentops.architectures.affine import Linear
from latentops.architectures.stack import Batch
from latentops.errors import LatentOpsError
from latentops.variants.autoencoder import Noise


def raise_bias(encoder: nn.Module, batch: Batch, dead: Bool[Tensor, "members units"], start: float) -> None:
    """Change in place the bias of `dead` units so that the mean pre-activation over `batch` is zero.

    `start` is what the variant adds to the encoder's outputs.
    """
    _, layer = _output_layer(encoder, dead.shape[1])
    mean = encoder(batch).mean(1, keepdim=True) + start
    layer.bias.copy_(torch.where(dead.unsqueeze(1), layer.bias - mean, layer.bias))


def resample(
    encoder: nn.Module,
    batch: Batch,
    dead: Bool[Tensor, "members units"],
    errors: Float[Tensor, "members batch"],
    noise: Noise,
    start: float,
) -> None:
    """Change in place weights and bias of `dead` units, each towards a row drawn by its squared `errors`."""
    _, layer = _output_layer(encoder, dead.shape[1])
    rows = drawn(errors.square(), dead.shape[1], noise)
    mean = read(encoder, batch, torch.full_like(rows, 1 / rows.shape[1]))
    away = read(encoder, batch, rows) - mean
    norms = layer.weight.norm(dim=1, keepdim=True)
    alive = (~dead).to(norms.dtype).unsqueeze(1)
    living = alive.sum(-1, keepdim=True)
    norm = torch.where(living > 0, (norms * alive).sum(-1, keepdim=True) / living.clamp_min(1), 1.0)
    weight = away * (norm / away.norm(dim=1, keepdim=True).clamp_min(1e-12))
    bias = -(weight * mean).sum(1, keepdim=True) - start
    layer.weight.copy_(torch.where(dead.unsqueeze(1), weight, layer.weight))
    layer.bias.copy_(torch.where(dead.unsqueeze(1), bias, layer.bias))


def readers(decoder: nn.Module, members: int, units: int) -> list[nn.Parameter]:
    """The weights `[members, units, _]` by which `decoder` reads the code.

    They are those that get no gradient where all of it is zero.
    """
    own = list(decoder.parameters())
    codes = own[0].new_zeros(members, 1, units)
    with torch.enable_grad():
        gradients = torch.autograd.grad(decoder(codes).square().sum(), own)
    found = zip(own, gradients, strict=True)
    return [each for each, gradient in found if each.shape[1:-1] == (units,) and not gradient.any()]


def silence(weights: Iterable[Float[Tensor, "members units _"]], dead: Bool[Tensor, "members units"]) -> None:
    """Set to zero in place what a decoder's `weights` (its `readers`) make of `dead` units."""
    for each in weights:
        each.mul_(~dead.unsqueeze(-1))


def drawn(
    odds: Float[Tensor, "members batch"], count: int, noise: Noise
) -> Float[Tensor, "members batch count"]:
    """`count` rows a member, one-hot, drawn by their `odds` (Gumbel 1954: the largest of perturbed logs)."""
    members, rows = odds.shape
    uniform = torch.special.ndtr(noise.normal((members, rows, count))).clamp(1e-6, 1 - 1e-6)
    perturbed = odds.clamp_min(1e-30).log().unsqueeze(-1) - (-uniform.log()).log()
    return (perturbed == perturbed.amax(1, keepdim=True)).to(odds.dtype)


def read(
    encoder: nn.Module, batch: Batch, shares: Float[Tensor, "members batch units"]
) -> Float[Tensor, "members inputs units"]:
    """What the layer that gives the code reads, each unit's own weighted sum over the rows.

    For any encoder that ends in an affine layer it is the derivative of ``Σ shares · outputs`` by that
    layer's weight.
    """
    name, layer = _output_layer(encoder, shares.shape[-1])
    with torch.enable_grad():
        weight = layer.weight.detach().requires_grad_()
        own = {key: each.detach() for key, each in encoder.named_parameters()}
        outputs = torch.func.functional_call(encoder, own | {f"{name}.weight": weight}, (batch,))
        (sums,) = torch.autograd.grad((outputs * shares).sum(), weight)
    return sums


def _output_layer(encoder: nn.Module, units: int) -> tuple[str, Linear]:
    layers = [(name, each) for name, each in encoder.named_modules() if isinstance(each, Linear)]
    if not layers or layers[-1][1].bias.shape[-1] != units:
        raise LatentOpsError("this encoder doesn't end in an affine layer: set variants.sparse.revive: none")
    return layers[-1]
