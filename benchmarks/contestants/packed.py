"""Recurrent autoencoder in plain torch on sequences of different lengths: packed, or padded and masked.

`variant: padded` steps over the padding and masks the loss; else `pack_padded_sequence` leaves it out.
"""

import math
import time

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.contestants.data import draw
from benchmarks.contestants.protocol import Job, Train, serve


class Autoencoder(nn.Module):
    """One recurrent layer reads; one, started from the code and driven by it, writes."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        cell = nn.LSTM if job.kind == "lstm" else nn.GRU
        width, channels = job.hidden[0], job.shape[1]
        self.packed = job.variant != "padded"
        self.reader = cell(channels, width, batch_first=True)
        self.to_code = nn.Linear(width, job.latent)
        self.start = nn.Linear(job.latent, width)
        self.writer = cell(job.latent, width, batch_first=True)
        self.head = nn.Linear(width, channels)
        for affine in (self.to_code, self.start, self.head):
            _uniform(affine.weight, affine.bias, affine.in_features)
        for layer in (self.reader, self.writer):
            weights = dict(layer.named_parameters())
            _uniform(weights["weight_ih_l0"], weights["bias_ih_l0"], layer.input_size)
            _uniform(weights["weight_hh_l0"], weights["bias_hh_l0"], width)

    def code(self, values: Tensor, lengths: Tensor) -> Tensor:
        """Codes `[batch, latent]` from the state after each sequence's last step."""
        if self.packed:
            packed = pack_padded_sequence(values, lengths, batch_first=True, enforce_sorted=False)
            _, last = self.reader(packed)
            state = last[0] if isinstance(last, tuple) else last
            return self.to_code(state[0])
        states, _ = self.reader(values)
        return self.to_code(states[torch.arange(len(values)), lengths - 1])

    def write(self, codes: Tensor, lengths: Tensor, longest: int) -> Tensor | PackedSequence:
        """The writer's states, packed or `[batch, longest, width]`."""
        state = torch.tanh(self.start(codes)).unsqueeze(0)
        first = (state, torch.zeros_like(state)) if isinstance(self.writer, nn.LSTM) else state
        drive: Tensor | PackedSequence = codes.unsqueeze(1).expand(-1, longest, -1)
        if isinstance(drive, Tensor) and self.packed:
            drive = pack_padded_sequence(drive, lengths, batch_first=True, enforce_sorted=False)
        states: Tensor | PackedSequence = self.writer(drive, first)[0]
        return states

    def loss(self, values: Tensor, lengths: Tensor) -> Tensor:
        """Mean squared error over valid values."""
        states = self.write(self.code(values, lengths), lengths, values.shape[1])
        if isinstance(states, PackedSequence):
            wanted = pack_padded_sequence(values, lengths, batch_first=True, enforce_sorted=False)
            return ((self.head(states.data) - wanted.data) ** 2).mean()
        valid = (torch.arange(values.shape[1]) < lengths[:, None]).unsqueeze(-1)
        squares = (self.head(states) - values) ** 2 * valid
        return squares.sum() / (lengths.sum() * values.shape[2])

    def reconstruct(self, values: Tensor, lengths: Tensor) -> Tensor:
        """Values `[batch, steps, channels]` as their codes decode."""
        states = self.write(self.code(values, lengths), lengths, values.shape[1])
        if isinstance(states, PackedSequence):
            states = pad_packed_sequence(states, batch_first=True, total_length=values.shape[1])[0]
        result: Tensor = self.head(states)
        return result


def _uniform(weight: Tensor, bias: Tensor, inputs: int) -> None:
    """The initial weights' law of ours."""
    nn.init.uniform_(weight, -math.sqrt(3 / inputs), math.sqrt(3 / inputs))
    nn.init.uniform_(bias, -math.sqrt(1 / inputs), math.sqrt(1 / inputs))


def prepare(job: Job) -> Train:
    """Make `job` ready."""
    torch.set_num_threads(job.threads)
    rows, held_out = draw(job)
    assert rows.lengths is not None
    assert held_out.lengths is not None
    dataset = TensorDataset(torch.from_numpy(rows.values), torch.from_numpy(rows.lengths))
    unseen = torch.from_numpy(held_out.values), torch.from_numpy(held_out.lengths)

    def train(steps: int, seed: int) -> tuple[float, float]:
        torch.manual_seed(seed)
        network = Autoencoder(job)
        optimiser = torch.optim.Adam(network.parameters(), lr=job.learning_rate)
        loader = DataLoader(dataset, job.batch, shuffle=True)
        began = time.perf_counter()
        for _ in range(steps // job.epoch):
            for values, lengths in loader:
                longest = int(lengths.max())
                loss = network.loss(values[:, :longest], lengths)
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
        seconds = time.perf_counter() - began
        with torch.no_grad():
            return seconds, held_out.mean_squared_error(network.reconstruct(*unseen).numpy())

    return train


if __name__ == "__main__":
    serve(prepare)
