"""PyOD: its AutoEncoder or VAE detector's `fit`, without the steps that it could do without.

`fit` also scores the training rows afterwards; timed is `train`, the public method in which it trains. Its
layers are its own; they get our initial weights and lose the activation on the code, so that all train the
same network. Preprocessing, batch normalisation, dropout and weight decay are off.
"""

import math
import time
from typing import Any

import torch
from pyod.models.auto_encoder import AutoEncoder
from pyod.models.vae import VAE
from torch import nn

from benchmarks.contestants.data import draw
from benchmarks.contestants.network import initialised
from benchmarks.contestants.protocol import Job, Train, serve


class Plain(AutoEncoder):  # type: ignore[misc]
    """The detector, with a stopwatch."""

    def build_model(self) -> None:
        """Its own network, with a code that is affine and the initial weights of all others."""
        super().build_model()
        self.model.encoder[-1].activation = nn.Identity()
        initialised(self.model)

    def train(self, train_loader: Any) -> None:
        """Its own training, timed."""
        began = time.perf_counter()
        super().train(train_loader)
        self.seconds = time.perf_counter() - began


class Variational(VAE):  # type: ignore[misc]
    """The variational detector, with a stopwatch."""

    def build_model(self) -> None:
        """Its own network, with the initial weights of all others."""
        super().build_model()
        initialised(self.model)

    def train(self, train_loader: Any) -> None:
        """Its own training, timed."""
        began = time.perf_counter()
        super().train(train_loader)
        self.seconds = time.perf_counter() - began


def detector(job: Job, epochs: int, seed: int) -> AutoEncoder | VAE:
    """The detector of a job.

    PyOD's VAE takes the squared errors' mean where the others take half their sum; beta makes up for it.
    Its capacity, 0 by default, would leave the KL term out.
    """
    settings: dict[str, Any] = {
        "preprocessing": False,
        "lr": job.learning_rate,
        "epoch_num": epochs,
        "batch_size": job.batch,
        "device": torch.device("cpu"),
        "random_state": seed,
        "verbose": 0,
        "optimizer_params": {},
        "hidden_activation_name": "elu",
        "batch_norm": False,
        "dropout_rate": 0,
    }
    if job.variant != "variational":
        return Plain(hidden_neuron_list=[*job.hidden, job.latent], **settings)
    return Variational(
        encoder_neuron_list=list(job.hidden),
        decoder_neuron_list=list(reversed(job.hidden)),
        latent_dim=job.latent,
        beta=2 / math.prod(job.shape),
        capacity=math.inf,
        **settings,
    )


def prepare(job: Job) -> Train:
    """Make `job` ready."""
    torch.set_num_threads(job.threads)
    rows, held_out = draw(job)

    def train(steps: int, seed: int) -> tuple[float, float]:
        fitted = detector(job, steps // job.epoch, seed).fit(rows.values)
        values = torch.from_numpy(held_out.values)
        with torch.no_grad():
            if job.variant == "variational":
                reconstruction = fitted.model.decode(fitted.model.encode(values)[0])
            else:
                reconstruction = fitted.model(values)
        return fitted.seconds, held_out.mean_squared_error(reconstruction.numpy())

    return train


if __name__ == "__main__":
    serve(prepare)
