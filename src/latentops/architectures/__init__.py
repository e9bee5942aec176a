"""What fits the data's structure: an encoder and a decoder for each shape of data."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Generator, Tensor, nn

from latentops.architectures import convolutional, mlp, recurrent, transformer
from latentops.architectures.columns import Columns
from latentops.architectures.feedback import Expected
from latentops.config import ArchitectureName, Architectures


@dataclass(frozen=True)
class Shape:
    """What a sample looks like: `[channels, height, width]`, `[columns]` or, ragged, `[steps, channels]`.

    `spread` is the standard deviation of a typical value, `bounds` what values lie between, if anything.
    `columns` are the widths of a table's columns, where some are categories or may be missing, and `optional`
    which of them are numbers with a flag, as `Columns` has them. Of tokens there are `vocabulary`; `[steps,
    1]` holds their ids, and `spread` is that of the numbers that they are read as.
    """

    sizes: tuple[int, ...]
    ragged: bool
    spread: float = 1.0
    bounds: tuple[float, float] | None = None
    columns: tuple[int, ...] = ()
    vocabulary: int | None = None
    optional: tuple[int, ...] = ()

    @property
    def table(self) -> Columns | None:
        """A table's columns, where they aren't all numbers that are there."""
        return Columns(self.columns, self.optional) if self.columns else None

    def read_as(self, width: int) -> "Shape":
        """What an architecture sees of it, where a token is read as `width` numbers."""
        return self if self.vocabulary is None else replace(self, sizes=(self.sizes[0], width))


def unchanged(outputs: Tensor) -> Tensor:
    """Of a decoder that gives the expected values themselves."""
    return outputs


def build(
    name: ArchitectureName,
    settings: Architectures,
    shape: Shape,
    outputs: int,
    latent_dim: int,
    generators: Sequence[Generator],
    expected: Expected = unchanged,
) -> tuple[nn.Module, nn.Module]:
    """An encoder to `outputs` numbers a sample and a decoder from `latent_dim`, one a generator.

    `expected` makes the expected values of what the decoder gives, for one that goes by its own steps.
    """
    if name == "mlp":
        hidden = [max(width, latent_dim) for width in settings.mlp.hidden]  # only the code may be narrow
        encoder = mlp.Encoder(shape.sizes, shape.ragged, hidden, outputs, generators, settings.mlp.activation)
        tied = encoder if settings.mlp.tied else None
        return encoder, mlp.Decoder(
            shape.sizes, hidden, latent_dim, generators, settings.mlp.activation, tied
        )
    if name == "convolutional":
        return (
            convolutional.Encoder(shape.sizes, shape.ragged, settings.convolutional, outputs, generators),
            convolutional.Decoder(shape.sizes, shape.ragged, settings.convolutional, latent_dim, generators),
        )
    if name == "recurrent":
        return (
            recurrent.Encoder(shape.sizes, shape.ragged, settings.recurrent, outputs, generators),
            recurrent.Decoder(
                shape.sizes, shape.ragged, settings.recurrent, latent_dim, generators, expected
            ),
        )
    return (
        transformer.Encoder(shape.sizes, shape.ragged, settings.transformer, outputs, generators),
        transformer.Decoder(
            shape.sizes, shape.ragged, settings.transformer, latent_dim, generators, expected
        ),
    )
