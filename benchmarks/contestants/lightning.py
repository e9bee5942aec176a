"""Lightning: its Trainer, a LightningModule and a DataLoader, with everything off that costs time.

Timed from its `on_train_start` to its `on_train_end`, so its own set-up isn't counted.
"""

import time

import lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.contestants.data import draw
from benchmarks.contestants.network import Autoencoder, loss_on
from benchmarks.contestants.protocol import Job, Train, serve


class Module(lightning.LightningModule):  # type: ignore[misc]
    """The network with its optimiser."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.learning_rate = job.learning_rate
        self.network = Autoencoder(job)

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        """The loss of a batch."""
        del index
        return self.network.loss(batch[0])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam."""
        return torch.optim.Adam(self.parameters(), lr=self.learning_rate)


class Stopwatch(lightning.Callback):  # type: ignore[misc]
    """Seconds of the training itself."""

    def on_train_start(self, trainer: object, module: object) -> None:
        """Start."""
        del trainer, module
        self.began = time.perf_counter()

    def on_train_end(self, trainer: object, module: object) -> None:
        """Stop."""
        del trainer, module
        self.seconds = time.perf_counter() - self.began


def prepare(job: Job) -> Train:
    """Make `job` ready."""
    torch.set_num_threads(job.threads)
    rows, held_out = draw(job)
    dataset = TensorDataset(torch.from_numpy(rows.values))

    def train(steps: int, seed: int) -> tuple[float, float]:
        torch.manual_seed(seed)
        module, watch = Module(job), Stopwatch()
        loader = DataLoader(dataset, job.batch, shuffle=True)
        trainer = lightning.Trainer(
            accelerator="cpu" if job.device == "cpu" else "gpu",
            devices=1,
            max_epochs=steps // job.epoch,
            barebones=True,
            callbacks=[watch],
        )
        trainer.fit(module, loader)
        return watch.seconds, loss_on(held_out, module.network)

    return train


if __name__ == "__main__":
    serve(prepare)
