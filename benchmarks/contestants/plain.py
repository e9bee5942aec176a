"""A plain loop: DataLoader, model, loss, Adam, as one writes it by hand."""

import time

import torch
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.contestants.data import draw
from benchmarks.contestants.network import Autoencoder, loss_on
from benchmarks.contestants.protocol import Job, Train, finish, serve


def prepare(job: Job) -> Train:
    """Make `job` ready."""
    torch.set_num_threads(job.threads)
    rows, held_out = draw(job)
    dataset = TensorDataset(torch.from_numpy(rows.values))

    def train(steps: int, seed: int) -> tuple[float, float]:
        torch.manual_seed(seed)
        network = Autoencoder(job).to(job.device)
        optimiser = torch.optim.Adam(network.parameters(), lr=job.learning_rate)
        loader = DataLoader(dataset, job.batch, shuffle=True)
        began = time.perf_counter()
        for _ in range(steps // job.epoch):
            for (values,) in loader:
                loss = network.loss(values.to(job.device))
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
        finish(job)
        return time.perf_counter() - began, loss_on(held_out, network)

    return train


if __name__ == "__main__":
    serve(prepare)
