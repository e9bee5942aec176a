"""Linear probe: multinomial logistic regression on standardised codes, several codes at once.

Each problem minimises ``mean cross-entropy + strength / 2 · ‖W‖²`` (the bias is free) by truncated Newton
steps (Nocedal & Wright 2006, algorithm 7.1) with exact gradients and an Armijo line search, from the
strongest penalty to the weakest, each started where the last one ended.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

TOLERANCE = 1e-6
"""Largest gradient entry at which a problem counts as solved."""

NEWTON_STEPS = 50
CONJUGATE_STEPS = 40
HALVINGS = 20


@dataclass(frozen=True)
class Probed:
    """Per problem: the strength chosen, its accuracy on `stop`, and which test rows it got right."""

    strength: list[float]
    stop_accuracy: list[float]
    correct: Tensor
    """bool `[problems, test]`"""


def linear_probe(
    train: Float[Tensor, "problems train latent"],
    train_labels: Int[Tensor, " train"],
    stop: Float[Tensor, "problems stop latent"],
    stop_labels: Int[Tensor, " stop"],
    test: Float[Tensor, "problems test latent"],
    test_labels: Int[Tensor, " test"],
    strengths: Sequence[float],
) -> Probed:
    """Fit on `train` for every strength, choose by accuracy on `stop` (ties: the stronger), predict `test`.

    Labels are class indices; rows are standardised with the training rows' mean and deviation.
    """
    mean, deviation = train.double().mean(1, keepdim=True), train.double().std(1, keepdim=True)
    scale = torch.where(deviation > 1e-12, deviation, torch.ones_like(deviation))
    inputs, stop_inputs, test_inputs = (
        torch.nn.functional.pad((rows.double() - mean) / scale, (0, 1), value=1.0)
        for rows in (train, stop, test)
    )
    classes = int(max(labels.max() for labels in (train_labels, stop_labels, test_labels))) + 1
    weights = inputs.new_zeros(inputs.shape[0], inputs.shape[2], classes)
    best = inputs.new_full((inputs.shape[0],), -1.0)
    chosen = inputs.new_zeros(inputs.shape[0])
    kept = weights.clone()
    for strength in sorted(strengths, reverse=True):
        weights = logistic_regression(inputs, train_labels, strength, weights)
        accuracy = ((stop_inputs @ weights).argmax(-1) == stop_labels).double().mean(-1)
        better = accuracy > best
        best = torch.where(better, accuracy, best)
        chosen = torch.where(better, strength, chosen)
        kept = torch.where(better[:, None, None], weights, kept)
    correct = (test_inputs @ kept).argmax(-1) == test_labels
    return Probed(chosen.tolist(), best.tolist(), correct)


def logistic_regression(
    inputs: Float[Tensor, "problems rows features"],
    labels: Int[Tensor, " rows"],
    strength: float,
    start: Float[Tensor, "problems features classes"],
) -> Float[Tensor, "problems features classes"]:
    """Weights that minimise the penalised cross-entropy; the last feature, constant 1, isn't penalised."""
    problem = _Problem(inputs, torch.nn.functional.one_hot(labels, start.shape[-1]).to(inputs), strength)
    weights = start.clone()
    for _ in range(NEWTON_STEPS):
        probabilities = torch.softmax(inputs @ weights, dim=-1)
        gradient = problem.gradient(weights, probabilities)
        size = gradient.abs().amax((1, 2))
        if bool((size < TOLERANCE).all()):
            break
        direction = problem.newton_direction(gradient, probabilities)
        weights = problem.line_search(weights, direction, gradient, size >= TOLERANCE)
    return weights


class _Problem:
    def __init__(self, inputs: Tensor, targets: Tensor, strength: float) -> None:
        self.inputs, self.targets = inputs, targets
        self.penalty = torch.full((inputs.shape[2], 1), strength, dtype=inputs.dtype)
        self.penalty[-1] = 0.0

    def objective(self, weights: Tensor) -> Tensor:
        logits = self.inputs @ weights
        loss = torch.logsumexp(logits, -1) - (logits * self.targets).sum(-1)
        return loss.mean(-1) + 0.5 * (self.penalty * weights**2).sum((1, 2))

    def gradient(self, weights: Tensor, probabilities: Tensor) -> Tensor:
        residual = (probabilities - self.targets) / self.inputs.shape[1]
        return self.inputs.transpose(1, 2) @ residual + self.penalty * weights

    def curvature(self, vector: Tensor, probabilities: Tensor) -> Tensor:
        """The Hessian times `vector`; a trace of ridge keeps the free bias's null direction away."""
        change = self.inputs @ vector
        weighted = (
            probabilities * (change - (probabilities * change).sum(-1, keepdim=True)) / self.inputs.shape[1]
        )
        return self.inputs.transpose(1, 2) @ weighted + (self.penalty + 1e-9) * vector

    def newton_direction(self, gradient: Tensor, probabilities: Tensor) -> Tensor:
        """Conjugate gradients on the Newton system, more exact the nearer the solution is."""
        direction = torch.zeros_like(gradient)
        residual = -gradient
        search = residual.clone()
        power = (residual**2).sum((1, 2), keepdim=True)
        goal = power * torch.clamp(power.sqrt(), max=0.25)
        for _ in range(CONJUGATE_STEPS):
            bent = self.curvature(search, probabilities)
            stride = power / (search * bent).sum((1, 2), keepdim=True).clamp_min(1e-300)
            stride = torch.where(power > goal, stride, 0.0)
            direction = direction + stride * search
            residual = residual - stride * bent
            after = (residual**2).sum((1, 2), keepdim=True)
            if bool((after <= goal).all()):
                break
            search = residual + after / power.clamp_min(1e-300) * search
            power = after
        return direction

    def line_search(self, weights: Tensor, direction: Tensor, gradient: Tensor, active: Tensor) -> Tensor:
        """Halve each problem's step until the objective falls enough (Armijo); solved problems stay."""
        slope = (direction * gradient).sum((1, 2))
        before = self.objective(weights)
        stride = active.to(weights.dtype)
        for _ in range(HALVINGS):
            trial = weights + stride[:, None, None] * direction
            short = self.objective(trial) > before + 1e-4 * stride * slope + 1e-14
            if not bool(short.any()):
                return trial
            stride = torch.where(short, 0.5 * stride, stride)
        return weights + torch.where(short, 0.0, stride)[:, None, None] * direction
