"""Anomaly scores that only a generative variant has: by its likelihood, and by the prior of its code.

Higher is more anomalous. Nothing is fitted but the model itself.
"""

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from latentops.architectures.stack import Batch
from latentops.data.prepared import Samples
from latentops.errors import LatentOpsError
from latentops.evaluation.anomaly import neighbour_distance
from latentops.training.trained import Trained
from latentops.variants.autoencoder import Noise
from latentops.variants.parts.evidence import nats_given

DRAWN = 4096
"""Codes that are drawn from a prior to tell where it is dense."""


def has_bound(trained: Trained) -> bool:
    """Whether the model has a Gaussian posterior, and with it an evidence bound."""
    return hasattr(trained.model, "posterior")


def likelihood(trained: Trained, samples: Samples) -> NDArray[np.float64]:
    """What the evidence bound of a variational model has of each sample, negative, in nats: `[members, n]`.

    The Kullback-Leibler divergence of its posterior from the prior, and what it is not likely by, given the
    posterior's mean (Kingma & Welling 2014, eq. 10, with one code, and that without noise). Raises
    `LatentOpsError` for any other model.
    """
    # Here, so that an edit of that variant makes no other one's evaluation stale.
    from latentops.variants.variational import kl_to_standard_normal

    model, posterior = trained.model, getattr(trained.model, "posterior", None)
    if posterior is None:
        raise LatentOpsError(f"{trained.variant} has no evidence bound to score by; variational has")

    def nats(batch: Batch) -> Float[Tensor, "members batch"]:
        mean, log_variance = posterior(batch)
        return nats_given(model, batch, mean) + kl_to_standard_normal(mean, log_variance).sum(-1)

    return trained.map(samples, nats).astype(np.float64)


def distance(trained: Trained, codes: NDArray[np.floating], neighbours: int) -> NDArray[np.float64]:
    """Mean distance of codes `[members, n, latent]` to the nearest draws from the prior: `[members, n]`.

    It falls where the prior is denser, whichever it is: all that is known of each is how to draw from it.
    """
    noise = Noise([torch.Generator().manual_seed(0) for _ in trained.members])
    with torch.no_grad():
        draws = trained.model.draw(DRAWN, noise).numpy()
    pairs = zip(draws, codes, strict=True)
    return np.stack([neighbour_distance(drawn, each, neighbours) for drawn, each in pairs])
