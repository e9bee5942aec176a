"""What a trained stack is good for, on the stop rows: probe accuracy, error, and single units; one a seed."""

import numpy as np
import torch
from numpy.typing import NDArray

from latentops.config import load_params
from latentops.data.prepared import Samples
from latentops.evaluation.probe import linear_probe
from latentops.evaluation.structure import best_unit_auroc
from latentops.training.trained import Trained


def probe_accuracy(trained: Trained, train: Samples, stop: Samples) -> list[float]:
    """Of a linear probe whose strength is chosen on the same stop rows, as for `stop_probe_accuracy`."""
    codes = [torch.from_numpy(trained.encode(rows)) for rows in (train, stop)]
    labels = [torch.from_numpy(np.array(rows.labels)) for rows in (train, stop)]
    fitting, choosing = zip(codes, labels, strict=True)
    strengths = load_params().evaluation.probe.strengths
    return linear_probe(*fitting, *choosing, *choosing, strengths).stop_accuracy


def squared_error(trained: Trained, stop: Samples) -> list[float]:
    """Mean squared error of the reconstruction."""
    error: NDArray[np.floating] = np.nanmean(trained.residuals(stop), axis=(1, 2))
    return [float(each) for each in error]


def unit_auroc(trained: Trained, stop: Samples) -> list[float]:
    """Highest AUROC of a single unit for a class, averaged over the classes."""
    labels = np.array(stop.labels)
    return [float(np.nanmean(best_unit_auroc(codes, labels)[0])) for codes in trained.encode(stop)]
