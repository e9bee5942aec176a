"""pythae: its AE or VAE around an encoder and decoder of one's own, its BaseTrainer and its data set.

Timed from its first `on_epoch_begin` to its last `on_epoch_end`, so the files it writes aren't counted.
"""

import tempfile
import time

import torch
from pythae.data.datasets import BaseDataset
from pythae.models import AE, VAE, AEConfig, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from pythae.trainers.training_callbacks import TrainingCallback
from torch import Tensor

from benchmarks.contestants import network
from benchmarks.contestants.data import draw
from benchmarks.contestants.protocol import Job, Train, serve


class Encoder(BaseEncoder):  # type: ignore[misc]
    """The encoder in pythae's terms."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.variational = job.variant == "variational"
        self.layers = network.encoder(job)

    def forward(self, values: Tensor) -> ModelOutput:
        """Codes, and their log-variances where they have any."""
        codes = self.layers(values)
        if not self.variational:
            return ModelOutput(embedding=codes)
        mean, log_variance = codes.chunk(2, -1)
        return ModelOutput(embedding=mean, log_covariance=log_variance)


class Decoder(BaseDecoder):  # type: ignore[misc]
    """The decoder in pythae's terms."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.layers = network.decoder(job)

    def forward(self, codes: Tensor) -> ModelOutput:
        """Values of codes."""
        return ModelOutput(reconstruction=self.layers(codes))


class Stopwatch(TrainingCallback):  # type: ignore[misc]
    """Seconds of all epochs."""

    def __init__(self) -> None:
        self.began: float | None = None

    def on_epoch_begin(self, training_config: BaseTrainerConfig, **rest: object) -> None:
        """Start with the first epoch."""
        del training_config, rest
        self.began = self.began or time.perf_counter()

    def on_epoch_end(self, training_config: BaseTrainerConfig, **rest: object) -> None:
        """What has passed so far."""
        del training_config, rest
        self.seconds = time.perf_counter() - (self.began or 0.0)


def prepare(job: Job) -> Train:
    """Make `job` ready."""
    torch.set_num_threads(job.threads)
    rows, held_out = draw(job)
    dataset = BaseDataset(torch.from_numpy(rows.values), torch.zeros(job.rows))

    def train(steps: int, seed: int) -> tuple[float, float]:
        torch.manual_seed(seed)
        if job.variant == "variational":
            settings = VAEConfig(input_dim=job.shape, latent_dim=job.latent)
            model = VAE(settings, encoder=Encoder(job), decoder=Decoder(job))
        else:
            settings = AEConfig(input_dim=job.shape, latent_dim=job.latent)
            model = AE(settings, encoder=Encoder(job), decoder=Decoder(job))
        watch = Stopwatch()
        with tempfile.TemporaryDirectory() as folder:
            config = BaseTrainerConfig(
                output_dir=folder,
                per_device_train_batch_size=job.batch,
                num_epochs=steps // job.epoch,
                learning_rate=job.learning_rate,
                seed=seed,
                no_cuda=job.device == "cpu",
            )
            BaseTrainer(model, dataset, training_config=config, callbacks=[watch]).train()
        with torch.no_grad():
            codes = model.cpu().encoder(torch.from_numpy(held_out.values)).embedding
            loss = held_out.mean_squared_error(model.decoder(codes).reconstruction.numpy())
        return watch.seconds, loss

    return train


if __name__ == "__main__":
    serve(prepare)
