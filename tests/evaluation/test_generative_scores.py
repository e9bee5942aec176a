"""Scores that a generative variant alone has."""

import numpy as np
import pytest
import torch

from latentops.data.prepared import Samples
from latentops.errors import LatentOpsError
from latentops.evaluation import generative_scores
from latentops.training.members import VIEW_ALL, Member, Resident
from latentops.training.trained import Trained
from latentops.variants.autoencoder import Noise
from tests.toy import draw, recipe

MEMBERS = [Member(seed, VIEW_ALL) for seed in range(2)]


def built(variant: str, kind: str) -> tuple[Trained, Samples]:
    made = recipe(variant, kind)
    return Trained(made.build(MEMBERS), MEMBERS, made), draw(kind, 24)


@pytest.mark.parametrize("kind", ["tabular", "sequence"])
def test_the_likelihood_of_all_samples_is_what_the_bound_adds_up_to(kind: str) -> None:
    """Where the posterior's noise is as good as none the bound is the training objective's terms."""
    trained, samples = built("variational", kind)
    found = generative_scores.likelihood(trained, samples)
    assert found.shape == (2, 24)
    batch = Resident.put(samples, torch.device("cpu")).shared(2)
    with torch.no_grad():
        mean, log_variance = trained.model.posterior(batch)
        kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(-1).mean(-1)
        nats = trained.model.nats(batch, mean)
    assert np.allclose(found.mean(axis=1), (nats + kl).numpy(), rtol=1e-4)


def test_a_sample_is_scored_by_itself() -> None:
    trained, samples = built("variational", "tabular")
    whole = generative_scores.likelihood(trained, samples)
    assert np.allclose(
        generative_scores.likelihood(trained, samples.select(slice(5, 9))), whole[:, 5:9], rtol=1e-4
    )
    values = np.array(samples.values)
    values[3] += 50
    moved = generative_scores.likelihood(trained, Samples(values, None, samples.labels, samples.ids))
    assert (moved[:, 3] > whole.max(axis=1)).all()


def test_other_variants_have_no_bound() -> None:
    trained, samples = built("undercomplete", "tabular")
    with pytest.raises(LatentOpsError, match="undercomplete has no evidence bound"):
        generative_scores.likelihood(trained, samples)


@pytest.mark.parametrize("variant", ["variational", "adversarial"])
def test_draws_from_the_prior_are_nearer_to_it_than_what_lies_outside(variant: str) -> None:
    trained, _ = built(variant, "tabular")
    noise = Noise([torch.Generator().manual_seed(7) for _ in MEMBERS])
    own = trained.model.draw(200, noise).numpy()
    near, far = (generative_scores.distance(trained, each, 5) for each in (own, own + 8))
    assert near.shape == (2, 200)
    assert far.min() > near.max()
    assert np.array_equal(near, generative_scores.distance(trained, own, 5))
