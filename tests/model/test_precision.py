"""Products in bfloat16: opt-in, and no worse than another seed would be."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.datasets import load_digits

from latentops.config import ArchitectureName
from latentops.data.prepared import Samples
from latentops.evaluation.probe import linear_probe
from latentops.training.device import products
from latentops.training.members import Member
from latentops.training.trained import Recipe, Trained
from tests.toy import SECTIONS, SMALL, describe, recipe, train

SEEDS = 5


def test_what_was_set_before_is_set_again_whatever_happens() -> None:
    model = recipe("undercomplete", "image", "convolutional").build([Member(0, "all")])
    layer, before = model.encoder.layers[0], torch.backends.mkldnn.matmul.fp32_precision
    seen = []

    def failing() -> None:
        with products("bf16", model):
            seen.extend([torch.backends.mkldnn.matmul.fp32_precision, layer.products])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()
    assert seen == ["bf16", torch.bfloat16]
    assert torch.backends.mkldnn.matmul.fp32_precision == before
    assert layer.products is None


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["mlp", "convolutional", "recurrent", "transformer"])
def test_metrics_in_bfloat16_stay_within_the_seeds_interval(architecture: ArchitectureName) -> None:
    loaded = load_digits()
    values = (loaded.images / 16).astype(np.float32)[:, None]
    digits = Samples(values, None, np.zeros(len(values), np.int64), np.zeros((len(values), 32), np.uint8))
    description = replace(describe("image"), shape=(1, 8, 8), classes=("all",), spread=0.3)
    made = Recipe.resolve("undercomplete", SECTIONS["undercomplete"], architecture, SMALL, 8, description)
    members = [Member(seed, "all") for seed in range(SEEDS)]
    labels = torch.from_numpy(loaded.target)
    figures = {}
    for precision in ("float32", "bf16"):
        model, outcome = train(made, members, digits, steps=300, batch_size=64, precision=precision)
        codes = torch.from_numpy(np.array(Trained(model, members, made).encode(digits)))
        part = [codes[:, :1000], codes[:, 1000:1400], codes[:, 1400:]]
        of = [labels[:1000], labels[1000:1400], labels[1400:]]
        pairs = [each for pair in zip(part, of, strict=True) for each in pair]
        accuracy = linear_probe(*pairs, [0.01, 0.1]).correct.double().mean(1)
        figures[precision] = {"objective": outcome.best_objective, "accuracy": accuracy.tolist()}
    for name, seeds in figures["float32"].items():
        half = stats.t.ppf(0.975, SEEDS - 1) * np.std(seeds, ddof=1)
        assert abs(np.mean(figures["bf16"][name]) - np.mean(seeds)) < half, name
