"""The Jacobian of an encoder, and the squared Frobenius norm of it that contraction penalises.

Four ways to that norm, each differentiable by the encoder's parameters:

- `closed`: of a perceptron with one layer (Rifai et al. 2011, eq. 6) or one hidden layer, from the weights'
  products alone, without any Jacobian;
- `chain`: of any perceptron, its layers' Jacobians multiplied from the code to the input;
- `rows`: of any encoder, one backward pass for each unit of the code;
- `estimate`: of any encoder, one backward pass a draw of signs, right on average (Hutchinson 1990).
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from latentops.architectures.affine import Linear, followed
from latentops.architectures.mlp import Encoder as Perceptron
from latentops.architectures.stack import Batch
from latentops.variants.autoencoder import Noise

Way = Literal["closed", "chain", "rows", "estimate"]
Encode = Callable[[Batch], Tensor]
Slopes = Float[Tensor, "members batch latent"] | None
"""Derivative of each unit by the encoder's output, where the code isn't that output itself."""

TYPICAL_BATCH = 64
"""Rows that costs are reckoned for; what is chosen must not depend on the batch at hand."""

AFFORDABLE = 2.5
"""Multiplications of a perceptron's exact norm over its estimate's up to which it is preferred.

A step takes at most half as long again then: there is more to it than the norm.
"""


def exact_way(encoder: nn.Module, ragged: bool, linear: bool) -> Way:
    """How `encoder`'s exact norm is found; `linear` says that its output is the code."""
    if not isinstance(encoder, Perceptron):
        return "rows"
    depth = len(encoder.layers)
    return "closed" if not ragged and (depth == 1 or (depth == 2 and linear)) else "chain"


def cheapest_way(
    encoder: nn.Module, ragged: bool, linear: bool, latent_dim: int, samples: int, draws: int
) -> Way:
    """The exact way where it costs at most `AFFORDABLE` times what the estimate does, else the estimate.

    Multiplications are counted, for a batch of `TYPICAL_BATCH` rows of which the chain and the rows take
    `samples`; nothing is measured, so that the same settings give the same bytes on every machine. Rows are
    preferred only where they are no more to go back through than the estimate's, each being a small pass.
    """
    way = exact_way(encoder, ragged, linear)
    estimated = draws * TYPICAL_BATCH
    if way == "rows":
        return way if latent_dim * samples <= estimated else "estimate"
    layers = [layer.weight.shape[1:] for layer in _layers(encoder)]
    through = sum(inputs * outputs for inputs, outputs in layers)
    if way == "closed":
        squares = sum(inputs * after**2 + after**2 * out for (inputs, after), (_, out) in pairwise(layers))
        cost = squares + TYPICAL_BATCH * through
    else:
        cost = samples * latent_dim * sum(inputs * outputs for inputs, outputs in layers[:-1])
    return way if cost <= AFFORDABLE * estimated * through else "estimate"


def closed_norm(encoder: nn.Module, batch: Batch, slopes: Slopes) -> Float[Tensor, "members batch"]:
    """``Σ_j s_j² ‖w_j‖²`` of one layer (Rifai et al. 2011, eq. 6: sigmoid units have s = h (1 - h)).

    Of two, with h units between them whose slopes are t: ``‖Vᵀ diag(t) Wᵀ‖² = tᵀ (WᵀW ∘ VVᵀ) t``, so that
    the products of weights are shared by all rows.
    """
    first, *rest = _layers(encoder)
    if not rest:
        squares = first.weight.square().sum(1).unsqueeze(1)
        units = squares.expand(-1, batch.values.shape[1], -1) if slopes is None else squares * slopes.square()
        return units.sum(-1)
    perceptron = cast(Perceptron, encoder)
    inner = perceptron.layers.activation.slope(first(perceptron.flatten(batch)))
    outlet = rest[0].weight
    products = torch.bmm(first.weight.transpose(1, 2), first.weight) * torch.bmm(
        outlet, outlet.transpose(1, 2)
    )
    return (torch.bmm(inner, products) * inner).sum(-1)


def jacobian(
    encoder: nn.Module, batch: Batch, slopes: Slopes
) -> Float[Tensor, "members batch latent values"]:
    """``∂z/∂x`` of each sample by its flattened values, 0 in padding; by chain or by rows."""
    if isinstance(encoder, Perceptron):
        whole = encoder.jacobian(batch)
    else:
        values, codes = _followed(encoder, batch)
        units = torch.eye(codes.shape[-1], dtype=codes.dtype, device=codes.device)
        rows = [_pulled(codes, values, unit.expand_as(codes)).flatten(2) for unit in units.unbind()]
        whole = torch.stack(rows, dim=2)
    if slopes is not None:
        whole = slopes.unsqueeze(-1) * whole
    if batch.lengths is None:
        return whole
    return whole * batch.mask.expand_as(batch.values).flatten(2).unsqueeze(2)


def estimated_norm(
    encoder: nn.Module,
    encode: Encode,
    batch: Batch,
    noise: Noise,
    latent_dim: int,
    linear: bool,
    draws: int,
) -> tuple[Float[Tensor, "members batch latent"], Float[Tensor, "members batch"]]:
    """Codes, and of each sample ``‖Jᵀv‖²`` with v of independent signs, which is ``‖J‖²_F`` on average.

    (Hutchinson 1990.) Each of the `draws` that it is the mean of takes one product with the transposed
    Jacobian, whatever the size of the code.
    """
    shape = (*batch.values.shape[:2], latent_dim)
    signs = [noise.normal(shape).sign().to(batch.values.dtype) for _ in range(draws)]
    if linear and isinstance(encoder, Perceptron):
        (codes, *_), pulled = zip(*(encoder.pull(batch, each) for each in signs), strict=True)
        pulled = tuple(each.view_as(batch.values) for each in pulled)
    else:
        values, codes = _followed(encode, batch)
        pulled = tuple(_pulled(codes, values, each) for each in signs)
    if batch.lengths is not None:
        pulled = tuple(each * batch.mask for each in pulled)
    first, *others = (each.square().flatten(2).sum(-1) for each in pulled)
    return codes, sum(others, first) / draws


def estimate_deviation(
    whole: Float[Tensor, "members batch latent values"], rows: int, draws: int
) -> Float[Tensor, " members"]:
    """Deviation of the mean of `rows` samples' estimated norms, over that of the exact ones.

    Of one sample ``Var vᵀGv = 2 Σ_{i≠j} G_ij²`` with ``G = JJᵀ`` (Hutchinson 1990): none where the code's
    units have gradients at right angles, the most where they are all the same.
    """
    products = whole @ whole.transpose(2, 3)
    own = products.diagonal(dim1=2, dim2=3)
    variance = 2 * (products.square().sum((2, 3)) - own.square().sum(-1)).clamp_min(0).mean(-1)
    return (variance / (rows * draws)).sqrt() / own.sum(-1).mean(-1).clamp_min(1e-12)


def singular_values(whole: Float[Tensor, "members batch latent values"]) -> Float[Tensor, "members batch k"]:
    """Of each sample's Jacobian, the largest first; k is the lesser of its sides."""
    narrow = whole.double() if whole.shape[2] <= whole.shape[3] else whole.double().transpose(2, 3)
    squares: Tensor = torch.linalg.eigvalsh(narrow @ narrow.transpose(2, 3))
    return squares.clamp_min(0).sqrt().flip(-1).to(whole.dtype)


def contraction_ratio(
    encode: Encode, batch: Batch, radius: Float[Tensor, "members batch"] | float, noise: Noise
) -> Float[Tensor, "members batch"]:
    """How far a sample's code moves for each unit that the sample does, `radius` in a random direction.

    (Rifai et al. 2011, §5.3, "contraction ratio".) Padding stays where it is.
    """
    direction = noise.normal(tuple(batch.values.shape)).to(batch.values.dtype) * batch.mask
    length = direction.flatten(2).norm(dim=-1)
    scale = (torch.as_tensor(radius) / length).view(*length.shape, *(1,) * (direction.ndim - 2))
    moved = encode(batch.with_values(batch.values + scale * direction))
    return (moved - encode(batch)).norm(dim=-1) / radius


def _layers(encoder: nn.Module) -> list[Linear]:
    return [cast(Linear, layer) for layer in cast(Perceptron, encoder).layers]


def _followed(encode: Encode, batch: Batch) -> tuple[Tensor, Tensor]:
    """The values as a part of the graph, and the codes they give."""
    with torch.enable_grad():
        values = followed(batch.values)
        return values, encode(batch.with_values(values))


def _pulled(outputs: Tensor, values: Tensor, directions: Tensor) -> Tensor:
    """``Jᵀ v``, to be differentiated again."""
    with torch.enable_grad():
        (found,) = torch.autograd.grad(outputs, values, directions, create_graph=True)
    return found
