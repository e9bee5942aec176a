"""Small classifiers, several at once: for what they can tell apart, and for what they look at to do so."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from latentops.architectures.stack import generator

HIDDEN = (64, 32)
"""Widths of the hidden layers."""

STEPS, BATCH, RATE, DECAY = 300, 128, 3e-3, 0.05
"""How each is trained, with AdamW (Loshchilov & Hutter 2019)."""

Rows = Float[Tensor, "problems rows inputs"]


@dataclass(frozen=True)
class Classifiers:
    """A perceptron a problem: what inputs are shifted and scaled by, and each layer's weights and biases."""

    mean: Float[Tensor, "problems 1 inputs"]
    scale: Float[Tensor, "problems 1 1"]
    layers: Sequence[tuple[Float[Tensor, "problems before after"], Float[Tensor, "problems 1 after"]]]

    @classmethod
    def fit(cls, rows: Rows, labels: Int[Tensor, "problems rows"], classes: int) -> "Classifiers":
        """Trained on all rows; each depends on its own alone, and the same rows give the same one."""
        source = generator("classifier")
        mean, scale = centre_and_scale(rows)
        layers = []
        for before, after in pairwise([rows.shape[2], *HIDDEN, classes]):
            weight = torch.randn(before, after, generator=source) * (2 / before) ** 0.5  # He et al. 2015
            layers.append((weight.repeat(len(rows), 1, 1), torch.zeros(len(rows), 1, after)))
        made = cls(mean, scale, layers)
        parameters = [each.requires_grad_() for layer in layers for each in layer]
        optimiser = torch.optim.AdamW(parameters, lr=RATE, weight_decay=DECAY, fused=True)
        for _ in range(STEPS):
            some = torch.randint(rows.shape[1], (BATCH,), generator=source)
            logits = made.logits(rows[:, some]).flatten(0, 1)
            # Summed over the problems, so that none of them weighs less for its neighbours.
            loss = functional.cross_entropy(logits, labels[:, some].flatten(), reduction="sum") / BATCH
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
        return cls(mean, scale, [(weight.detach(), bias.detach()) for weight, bias in layers])

    def hidden(self, rows: Rows) -> Float[Tensor, "problems rows features"]:
        """What the last hidden layer makes of rows."""
        hidden = (rows - self.mean) / self.scale
        for weight, bias in self.layers[:-1]:
            hidden = torch.relu(torch.baddbmm(bias, hidden, weight))
        return hidden

    def logits(self, rows: Rows) -> Float[Tensor, "problems rows classes"]:
        """What speaks for each class."""
        weight, bias = self.layers[-1]
        return torch.baddbmm(bias, self.hidden(rows), weight)


def centre_and_scale(
    rows: Rows,
) -> tuple[Float[Tensor, "problems 1 inputs"], Float[Tensor, "problems 1 1"]]:
    """The mean of each input, and the root of their mean variance, which is one scale for all of them.

    With a scale for each, a pixel that is hardly ever inked would outweigh all others where one is.
    """
    variance, mean = torch.var_mean(rows, dim=1, keepdim=True)
    return mean, variance.mean(2, keepdim=True).sqrt().clamp_min(1e-12)
