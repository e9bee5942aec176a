"""What single units and ways through a latent space stand for, as rows of images of one trained member."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from latentops.data.prepared import Samples
from latentops.evaluation.paths import interpolations, traversals
from latentops.evaluation.profiles import rectified_maps
from latentops.training.members import Resident
from latentops.training.trained import Trained
from latentops.variants.parts import sparsity
from latentops.variants.sparse import Variant as Sparse

Images = NDArray[np.float32]
PAIRS = 4
MOST_MAPS = 4
"""Maps of a layer that are shown: those that vary most over the images."""

MOST_UNITS = 12
"""Units of which a row is shown; a larger code is shown by the first of them."""


def travelled(stack: Trained, samples: Samples, points: int) -> Mapping[str, Images]:
    """A row a unit: it alone goes from two deviations below the mean of the codes to two above."""
    walk = traversals(stack, samples, points).values[0]
    return {f"unit {unit + 1}": images for unit, images in enumerate(walk[:MOST_UNITS])}


def between(stack: Trained, samples: Samples, points: int) -> Mapping[str, Images]:
    """Rows from one of `samples` to the next, along straight lines between their codes."""
    pairs = min(PAIRS, len(samples) // 2)
    starts, ends = np.arange(pairs), len(samples) - 1 - np.arange(pairs)
    walk = interpolations(stack, samples.select(starts), samples.select(ends), points)
    return {f"pair {pair + 1}": images for pair, images in enumerate(walk.values[0])}


def dictionary(stack: Trained, samples: Samples) -> Images:
    """What each unit of a sparse code adds to the reconstruction when it is as active as it is on average.

    `[units, *shape]`, grey where a unit adds nothing, on one scale for all. A dead unit adds nothing. What is
    active is for the variant to say; of one that isn't sparse it is what lies above zero.
    """
    codes, model = torch.from_numpy(np.array(stack.encode(samples))), stack.model
    active = model.active(codes) if isinstance(model, Sparse) else codes > 0
    sizes = sparsity.active_means(codes, active)
    with torch.no_grad():
        added = sparsity.dictionary(stack.model, sizes)[0, :MOST_UNITS].numpy()
    return (0.5 + added / (2 * max(float(np.abs(added).max()), 1e-12))).astype(np.float32)


def feature_maps(stack: Trained, samples: Samples) -> Mapping[str, Images]:
    """What a few maps of each layer of a convolutional encoder show of `samples`, by layer and map.

    `[n, 1, height, width]` from 0 to 1, on a scale of its own for each map.
    """
    batch = Resident.put(samples, torch.device("cpu")).shared(1)
    rows = {}
    with torch.no_grad():
        layers = rectified_maps(stack, batch)
    for layer, maps in enumerate(layers):
        order = maps[0].var(dim=(0, 2, 3)).argsort(descending=True, stable=True)[:MOST_MAPS]
        for at in sorted(order.tolist()):
            one: Images = maps[0, :, at : at + 1].numpy()
            shades = (one - one.min()) / max(float(np.ptp(one)), 1e-12)
            rows[f"layer {layer + 1}, map {at + 1}"] = shades.astype(np.float32)
    return rows
