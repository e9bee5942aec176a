"""Convolutional autoencoder: the plain objective with an encoder that looks at neighbourhoods.

What is asked of the code: features that are shared over positions and built up from small to large
(LeCun et al. 1998; Masci et al. 2011, "Stacked convolutional auto-encoders"). On tables and sequences the
convolution runs in 1-D over columns or steps, so that a mismatch is measured rather than forbidden.

Diagnosis: the same data under a perceptron (the undercomplete row) is the comparison that counts; energy at
the stride's frequency, which is told of every variant's reconstructions, tells of a decoder that upsamples
unevenly.
"""

from typing import Literal

from latentops.variants.autoencoder import Autoencoder, VariantSettings


class ConvolutionalSettings(VariantSettings):
    """The architecture is the variant.

    `architecture`: what it is made of stands under the dataset's `architectures`.
    """

    architecture: Literal["convolutional"] = "convolutional"


class Variant(Autoencoder):
    """Minimises the reconstruction; halving convolutions down, doubling ones up."""

    Settings = ConvolutionalSettings
