"""Sizes of the architectures, and the likelihood of what they reconstruct: what a model is built from."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from latentops.config.settings import Count, Positive, Settings

ArchitectureName = Literal["mlp", "convolutional", "recurrent", "transformer"]
CellName = Literal["gru", "lstm"]
ActivationName = Literal["elu", "relu", "tanh", "gelu", "sigmoid"]
PoolingName = Literal["mean", "last", "attention"]
DecoderName = Literal["conditioned", "autoregressive"]
LikelihoodName = Literal["gaussian", "bernoulli", "huber", "mixed", "categorical"]


class MLP(Settings):
    """Widths of the hidden layers, empty for a linear code; the decoder mirrors the encoder.

    `tied`: it does so with the encoder's own weights, transposed, and biases of its own.
    """

    hidden: list[Count]
    activation: ActivationName = "elu"
    tied: bool = False


class Convolutional(Settings):
    """Channels of the halving layers, and what they are made of; the decoder mirrors the encoder.

    Maps go `down` by the stride of the kernels or by the maximum of four, and `up` by transposed kernels or
    by repeating values before a plain one. `residual` blocks follow each layer. `normalisation` is of each
    sample, over all channels or groups of them. `dilation` is the distance of the taps of kernels that aren't
    strided: of strided ones an even distance would leave every other position out. `attention`: the positions
    of the smallest map attend to one another.
    """

    channels: Annotated[list[Count], Field(min_length=1)]
    down: Literal["strided", "pooled"] = "strided"
    up: Literal["transposed", "resize"] = "transposed"
    residual: Annotated[int, Field(ge=0)] = 0
    normalisation: Literal["none", "layer", "group"] = "none"
    dilation: Count = 1
    attention: bool = False

    @model_validator(mode="after")
    def _something_is_dilated(self) -> Self:
        if self.dilation > 1 and self.down == "strided" and self.up == "transposed" and not self.residual:
            raise ValueError(
                f"dilation: {self.dilation} changes only kernels that aren't strided, and there are none; "
                "add residual: 1, down: pooled or up: resize, or use dilation: 1"
            )
        return self


class Recurrent(Settings):
    """The recurrent cell, the width of its state, and how the states of all steps become one vector.

    Of more `layers` each is driven by the states of the one below, in the encoder and in the decoder. The
    decoder's steps are driven by the code alone (`conditioned`) or by the step before as well. Of a longer
    sequence no more than a `chunk` of steps is kept for the way back; the others are taken again.
    """

    cell: CellName = "gru"
    hidden: Count
    layers: Count = 1
    pooling: PoolingName = "last"
    decoder: DecoderName = "conditioned"
    chunk: Count | None = None


class Transformer(Settings):
    """Blocks of self-attention, `layers` in the encoder and as many in the decoder.

    A step is `width` numbers, `expansion` times as many within a block's perceptron. With a `patch` an image
    is read in squares of that side, else row by row. Of a longer sequence no more than `queries` steps attend
    at once: more are faster and take more memory. The decoder's steps are driven by the code alone
    (`conditioned`) or by the step before as well. With a `checkpoint` a block keeps what it is given alone
    for the way back, and is taken again there.
    """

    width: Count = 32
    heads: Count = 4
    layers: Count = 2
    expansion: Count = 2
    positions: Literal["sinusoidal", "rotary"] = "sinusoidal"
    pooling: PoolingName = "attention"
    patch: Count | None = None
    queries: Count = 256
    decoder: DecoderName = "conditioned"
    checkpoint: bool = False

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} can't be shared by {self.heads} heads; make it a multiple")
        if self.positions == "rotary" and self.width // self.heads % 2:
            raise ValueError(
                f"positions: rotary turns pairs of numbers, but a head has {self.width // self.heads}; "
                "make width / heads even, or use positions: sinusoidal"
            )
        return self


class Architectures(Settings):
    """Sizes of each architecture on one dataset, the same for every variant that uses it.

    `embedding` is how many numbers each of them reads a token as, and writes it from.
    """

    embedding: Annotated[int, Field(ge=4)] = 16
    mlp: MLP
    convolutional: Convolutional
    recurrent: Recurrent
    transformer: Transformer = Transformer()


class LikelihoodSettings(Settings):
    """The density of a value given its reconstruction: a name, or `{name: …}` with what is fixed of it.

    `variance` is the Gaussian's, in prepared units; without it, it is learned. `threshold` is where Huber's
    density passes from normal to exponential tails, in its own deviations. With `length` a sequence's number
    of steps is modelled as well.
    """

    name: LikelihoodName
    variance: Positive | None = None
    threshold: Positive | None = None
    length: bool = False

    @model_validator(mode="before")
    @classmethod
    def _a_name_alone(cls, value: object) -> object:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _options_belong_to_the_name(self) -> Self:
        if self.variance is not None and self.name != "gaussian":
            raise ValueError(f"variance is fixed of a gaussian alone; drop it from likelihood: {self.name}")
        if self.threshold is not None and self.name != "huber":
            raise ValueError(f"threshold belongs to huber; drop it from likelihood: {self.name}")
        return self

    def to_json(self) -> str | dict[str, object]:
        """The name, or a mapping where more than that is set."""
        chosen = self.model_dump(exclude_defaults=True)
        return self.name if len(chosen) == 1 else chosen
