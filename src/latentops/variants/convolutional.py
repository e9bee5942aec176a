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
    """The architecture is the variant.

    `architecture`: what it is made of stands under the dataset's `architectures`.
    """

    architecture: Literal["convolutional"] = "convolutional"


class Variant(Autoencoder):
    """Minimises the reconstruction; halving convolutions down, doubling ones up."""

    Settings = ConvolutionalSettings

    def diagnose(self, batch: Batch) -> dict[str, Float[Tensor, " members"]]:
        """`checkerboard`, of images: energy at the stride's frequency over that of the data; 1 is none.

        NaN where the data has none there.
        """
        if batch.values.ndim != 5:
            return {}
        own = checkerboard_energy(batch.values)
        share = checkerboard_energy(self.reconstruct(batch)) / own.masked_fill(own < 1e-12, torch.nan)
        return {"checkerboard": share}


def checkerboard_energy(images: Float[Tensor, "members batch c h w"]) -> Float[Tensor, " members"]:
    """Share of the power that lies at the frequency of a stride of two, half a cycle a pixel, along any axis.

    Power is that of the images' differences from their means. Uneven overlaps of a strided kernel show there
    (Odena et al. 2016, "Deconvolution and checkerboard artifacts"). Odd sizes are cut by one; an axis of a
    single pixel has no such frequency. NaN where images are constant.
    """
    high, wide = (max(1, size - size % 2) for size in images.shape[3:])
    spectrum = torch.fft.fft2(images[..., :high, :wide]).abs().square()
    down = torch.arange(high, device=images.device) == (high // 2 or high)
    across = torch.arange(wide, device=images.device) == (wide // 2 or wide)
    there = spectrum * (down.unsqueeze(-1) | across)
    means = spectrum[..., 0, 0].flatten(1).sum(1)
    power = spectrum.flatten(1).sum(1) - means
    return there.flatten(1).sum(1) / power.masked_fill(power <= 1e-12 * means, torch.nan)
