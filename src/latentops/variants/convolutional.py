"""Convolutional autoencoder: the plain objective with an encoder that looks at neighbourhoods.

What is asked of the code: features that are shared over positions and built up from small to large
(LeCun et al. 1998; Masci et al. 2011, "Stacked convolutional auto-encoders"). On tables and sequences the
convolution runs in 1-D over columns or steps, so that a mismatch is measured rather than forbidden.

Diagnosis: the same data under a perceptron (the undercomplete row) is the comparison that counts; energy at
the stride's frequency tells of a decoder that upsamples unevenly.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from latentops.architectures.stack import Batch
from latentops.variants.autoencoder import Autoencoder, VariantSettings


class ConvolutionalSettings(VariantSettings):
    """The architecture is the variant; what it is made of stands under the dataset's `architectures`."""

    architecture: Literal["convolutional"] = "convolutional"


class Variant(Autoencoder):
    """Minimises the reconstruction; halving convolutions down, doubling ones up."""

    Settings = ConvolutionalSettings

    def diagnose(self, batch: Batch) -> dict[str, Float[Tensor, " members"]]:
        """`checkerboard`, of images: energy at the stride's frequency over that of the data; 1 is none."""
        if batch.values.ndim != 5:
            return {}
        return {
            "checkerboard": checkerboard_energy(self.reconstruct(batch))
            / checkerboard_energy(batch.values).clamp_min(1e-12)
        }


def checkerboard_energy(images: Float[Tensor, "members batch c h w"]) -> Float[Tensor, " members"]:
    """Share of the power that lies at the frequency of a stride of two, half a cycle a pixel, along any axis.

    Power is that of the images' differences from their means. Uneven overlaps of a strided kernel show there
    (Odena et al. 2016, "Deconvolution and checkerboard artifacts"). Odd sizes are cut by one.
    """
    high, wide = (size - size % 2 for size in images.shape[3:])
    spectrum = torch.fft.fft2(images[..., :high, :wide]).abs().square()
    power = spectrum.flatten(1).sum(1) - spectrum[..., 0, 0].flatten(1).sum(1)
    rows, columns = spectrum[..., high // 2, :], spectrum[..., :, wide // 2]
    corner = spectrum[..., high // 2, wide // 2]
    total = rows.flatten(1).sum(1) + columns.flatten(1).sum(1) - corner.flatten(1).sum(1)
    return total / power.clamp_min(1e-12)
