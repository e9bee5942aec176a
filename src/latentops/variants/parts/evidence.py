"""What a Gaussian posterior is worth: how likely the data is under the model, and what a code knows of it.

Shapes: posterior means and log-variances are `[members, batch, latent]`; everything is in nats.
"""

import copy
import math

import torch
from jaxtyping import Float
from torch import Tensor

from latentops.architectures.stack import Batch
from latentops.variants.autoencoder import Autoencoder, Noise
from latentops.variants.likelihood import Likelihood

SAMPLES = 256
"""Samples that the bounds of a diagnosis are taken on, at most: each is decoded `DRAWS` times."""

DRAWS = 16
"""Codes that are drawn for each of them."""

DIFFERENTIATED = 64
"""Samples that gradients are taken of, at most: what decodes each is kept until it is differentiated."""

CROSSED = 1024
"""Samples whose codes are held against one another's posteriors, at most."""


def first(batch: Batch, samples: int) -> Batch:
    """The first `samples` of a batch."""
    return Batch(batch.values[:, :samples], None if batch.lengths is None else batch.lengths[:, :samples])


def log_normal(codes: Tensor, mean: Tensor, log_variance: Tensor) -> Float[Tensor, "members batch"]:
    """Log density of codes `[members, batch, latent]` under independent normals."""
    squares = (codes - mean) ** 2 * torch.exp(-log_variance)
    return -0.5 * (squares + log_variance + math.log(2 * math.pi)).sum(-1)


def sample_nats(likelihood: Likelihood, batch: Batch, outputs: Tensor) -> Float[Tensor, "members batch"]:
    """Negative log-likelihood of each sample: the likelihood's mean over a batch that holds it alone."""
    members, size = outputs.shape[:2]
    each = copy.deepcopy(likelihood)
    for own in (*each.parameters(), *each.buffers()):
        own.data = own.data.repeat_interleave(size, dim=0)
    lengths = None if batch.lengths is None else batch.lengths.reshape(-1, 1)
    alone = Batch(batch.values.flatten(0, 1).unsqueeze(1), lengths)
    return each.negative_log_likelihood(alone, outputs.flatten(0, 1).unsqueeze(1)).view(members, size)


def nats_given(model: Autoencoder, batch: Batch, codes: Tensor) -> Float[Tensor, "members batch"]:
    """``-log p(x|z)`` of each sample, of its length too where that is modelled."""
    nats = sample_nats(model.likelihood, batch, model.decode_told(codes, batch))
    if model.lengths is None or batch.lengths is None:
        return nats
    return nats + model.lengths.nats(codes, batch.lengths)


def log_weights(
    model: Autoencoder, batch: Batch, mean: Tensor, log_variance: Tensor, noise: Noise, draws: int = DRAWS
) -> Float[Tensor, "draws members batch"]:
    """``log p(x|z) + log p(z) - log q(z|x)`` of codes z drawn from the posterior."""
    weights, zero = [], torch.zeros_like(mean)
    for _ in range(draws):
        codes = mean + torch.exp(0.5 * log_variance) * noise.normal(tuple(mean.shape))
        nats = nats_given(model, batch, codes)
        weights.append(log_normal(codes, zero, zero) - log_normal(codes, mean, log_variance) - nats)
    return torch.stack(weights)


def importance_weighted(
    weights: Float[Tensor, "all members batch"], draws: int | None = None
) -> Float[Tensor, " members"]:
    """Lower bound of a sample's log-likelihood by `draws` codes at once (Burda et al. 2016, eq. 8).

    By one code it is the evidence lower bound, by more it is tighter; by default all there are. Fewer than
    all are averaged over as many groups as there are whole ones.
    """
    size = draws or len(weights)
    groups = weights[: len(weights) // size * size].view(-1, size, *weights.shape[1:])
    return (torch.logsumexp(groups, dim=1) - math.log(size)).mean(0).mean(-1)


def mutual_information(mean: Tensor, log_variance: Tensor, noise: Noise) -> Float[Tensor, " members"]:
    """Information that a code has about which sample it is of (Hoffman & Johnson 2016, eq. 6).

    ``E log q(z|n) - log q(z)`` with ``q(z)`` the mean of all samples' posteriors, by one code a sample. No
    more than the logarithm of their number.
    """
    mean, log_variance = mean.double(), log_variance.double()
    codes = mean + torch.exp(0.5 * log_variance) * noise.normal(tuple(mean.shape)).double()
    precision = torch.exp(-log_variance)
    constant = (mean**2 * precision + log_variance + math.log(2 * math.pi)).sum(-1).unsqueeze(1)
    crossed = torch.bmm(codes**2, precision.mT) - 2 * torch.bmm(codes, (mean * precision).mT)
    log_density = -0.5 * (crossed + constant)
    own = torch.diagonal(log_density, dim1=1, dim2=2)
    mixture = torch.logsumexp(log_density, dim=-1) - math.log(mean.shape[1])
    return (own - mixture).mean(-1).to(torch.float32)


def gradients(
    model: Autoencoder, batch: Batch, mean: Tensor, log_variance: Tensor, noise: Noise, draws: int = DRAWS
) -> tuple[Float[Tensor, "draws members batch _"], Float[Tensor, "draws members batch _"]]:
    """Two unbiased estimates, draw by draw, of ``∇ E log p(x|z)`` by each posterior mean and log-variance.

    First the reparameterised one, ``∇_z log p(x|z)`` carried through ``z = μ + σε`` (Kingma & Welling 2014,
    §2.4), then the score function's, ``log p(x|z) ∇ log q(z)`` (Williams 1992).
    """
    pathwise, score = [], []
    deviation = torch.exp(0.5 * log_variance)
    for _ in range(draws):
        epsilon = noise.normal(tuple(mean.shape))
        codes = (mean + deviation * epsilon).detach().requires_grad_()
        with torch.enable_grad():
            nats = nats_given(model, batch, codes)
            (slope,) = torch.autograd.grad(-nats.sum(), codes)
        pathwise.append(torch.cat([slope, 0.5 * slope * deviation * epsilon], dim=-1))
        likely = -nats.detach().unsqueeze(-1)
        score.append(likely * torch.cat([epsilon / deviation, 0.5 * (epsilon**2 - 1)], dim=-1))
    return torch.stack(pathwise), torch.stack(score)


def gradient_variance_ratio(
    model: Autoencoder, batch: Batch, mean: Tensor, log_variance: Tensor, noise: Noise
) -> Float[Tensor, " members"]:
    """Variance of the score function's estimate over that of the reparameterised one.

    Not a number where the decoder takes no notice of the code, so that neither varies or one alone does.
    """
    pathwise, score = gradients(model, batch, mean, log_variance, noise)
    return gradient_variance(score) / gradient_variance(pathwise)


def gradient_variance(estimates: Float[Tensor, "draws members batch _"]) -> Float[Tensor, " members"]:
    """How much an estimate varies from draw to draw, summed over what it is by, averaged over samples."""
    return estimates.var(0).sum(-1).mean(-1)
