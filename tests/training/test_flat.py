"""One buffer of all parameters, and its optimiser."""

import torch
from torch import nn

from latentops.architectures.stack import generator
from latentops.training.flat import Flat


def test_adam_takes_a_buffer_in_pieces_as_it_takes_it_whole() -> None:
    """A GPU gives each piece to a multiprocessor; where a buffer is cut changes no number."""

    def trained(piece: int | None) -> torch.Tensor:
        flat = Flat([nn.Parameter(torch.ones(2, 40)), nn.Parameter(torch.zeros(2, 3, 7))])
        flat.piece = piece or flat.piece
        draws = generator("gradients")
        for _ in range(5):
            flat.gradient.copy_(torch.randn(len(flat.gradient), generator=draws))
            flat.step(torch.tensor(0.01))
        return flat.buffer

    whole = trained(None)
    assert bool((whole[:80] != 1).all())
    for piece in (32, 64):
        assert torch.equal(trained(piece), whole)
