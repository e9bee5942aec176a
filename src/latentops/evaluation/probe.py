"""Linear probe: multinomial logistic regression on standardised codes.

Minimises ``mean cross-entropy + strength / 2 · ‖W‖²`` (the bias is free) by Newton steps from the strongest
penalty to the weakest, each started where the last one ended. The gradient and the objective are of all rows;
the Hessian is of a fixed random sample of them (Byrd et al. 2011, "On the use of stochastic Hessian
information in optimization methods for machine learning"), and its system is solved roughly by conjugate
gradients (Nocedal & Wright 2006, algorithm 7.1), with an Armijo line search behind it. What they are
preconditioned with is the Hessian there would be if all rows were as sure of a class as they are on average.

Rows are the last axis everywhere: a softmax over a short last axis is slow. Products are float32, what they
add up to over blocks of rows float64.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

TOLERANCE = 2e-5
"""Largest gradient entry at which a fit counts as done; scikit-learn's lbfgs takes five times that."""

ROWS_PER_FEATURE = 200
"""Rows that the Hessian is taken from, for each feature; with fewer, steps are cheaper and too many."""

BLOCK = 4096
"""Rows that are worked on at once, so that they stay in the processor's cache."""

NARROWEST = 1e-6
"""Least share of the largest eigenvalue that is told from none."""

ROUNDING = 1e-7
"""Rise of the objective that is put down to float32 and no reason to shorten a step."""

NEWTON_STEPS = 50
CONJUGATE_STEPS = 60
HALVINGS = 20


@dataclass(frozen=True)
class Standard:
    """Mean and deviation `[latent]` of the training rows' codes, 1 in place of a deviation of 0."""

    mean: Float[Tensor, " latent"]
    scale: Float[Tensor, " latent"]

    @classmethod
    def of(cls, train: Float[Tensor, "rows latent"]) -> "Standard":
        """In float64."""
        deviation, mean = torch.std_mean(train.double(), dim=0)
        return cls(mean, torch.where(deviation > 1e-12, deviation, torch.ones_like(deviation)))

    def apply(self, codes: Float[Tensor, "rows latent"]) -> Float[Tensor, "rows latent"]:
        """Standardised, in float32."""
        return ((codes - self.mean) / self.scale).float()


@dataclass(frozen=True)
class Probe:
    """Fitted probes, one a problem: the strength chosen, accuracy on `stop`, and what codes are read by."""

    strength: Sequence[float]
    stop_accuracy: Sequence[float]
    weights: Sequence[Float[Tensor, "classes features"]]
    standards: Sequence[Standard]

    def logits(self, codes: Float[Tensor, "problems rows latent"]) -> Float[Tensor, "problems classes rows"]:
        """Unnormalised log-probabilities of the classes."""
        read = zip(self.weights, self.standards, codes, strict=True)
        return torch.stack([weights @ _inputs(standard.apply(rows)) for weights, standard, rows in read])

    def correct(
        self, codes: Float[Tensor, "problems rows latent"], labels: Int[Tensor, " rows"]
    ) -> Bool[Tensor, "problems rows"]:
        """Which rows it gets right."""
        return self.logits(codes).argmax(1) == labels


@dataclass(frozen=True)
class Probed:
    """Per problem: the strength chosen, its accuracy on `stop`, and which test rows it got right."""

    strength: list[float]
    stop_accuracy: list[float]
    correct: Bool[Tensor, "problems test"]


def fit_probe(
    train: Float[Tensor, "problems train latent"],
    train_labels: Int[Tensor, " train"],
    stop: Float[Tensor, "problems stop latent"],
    stop_labels: Int[Tensor, " stop"],
    strengths: Sequence[float],
    classes: int = 0,
) -> Probe:
    """Fit on `train` for every strength, choose by accuracy on `stop` (ties: the stronger).

    Labels are indices of at least `classes`, one of which may have no row here; rows are standardised with
    the training rows' mean and deviation.
    """
    classes = max(classes, int(max(train_labels.max(), stop_labels.max())) + 1)
    chosen, accuracies, kept, standards = [], [], [], []
    for fitting, choosing in zip(train, stop, strict=True):
        standard = Standard.of(fitting)
        inputs, stop_inputs = (_inputs(standard.apply(rows)) for rows in (fitting, choosing))
        best = (-1.0, 0.0, inputs)
        for strength, weights in logistic_regression(inputs, train_labels, classes, strengths):
            accuracy = float(((weights @ stop_inputs).argmax(0) == stop_labels).double().mean())
            if accuracy > best[0]:
                best = accuracy, strength, weights
        accuracies.append(best[0])
        chosen.append(best[1])
        kept.append(best[2])
        standards.append(standard)
    return Probe(chosen, accuracies, kept, standards)


def linear_probe(
    train: Float[Tensor, "problems train latent"],
    train_labels: Int[Tensor, " train"],
    stop: Float[Tensor, "problems stop latent"],
    stop_labels: Int[Tensor, " stop"],
    test: Float[Tensor, "problems test latent"],
    test_labels: Int[Tensor, " test"],
    strengths: Sequence[float],
) -> Probed:
    """`fit_probe` on `train` and `stop`, and what it makes of `test`."""
    probe = fit_probe(train, train_labels, stop, stop_labels, strengths)
    return Probed(list(probe.strength), list(probe.stop_accuracy), probe.correct(test, test_labels))


def _inputs(rows: Float[Tensor, "rows latent"]) -> Float[Tensor, "features rows"]:
    """With a constant 1 as the last feature."""
    return torch.nn.functional.pad(rows.T, (0, 0, 0, 1), value=1.0)


def logistic_regression(
    inputs: Float[Tensor, "features rows"],
    labels: Int[Tensor, " rows"],
    classes: int,
    strengths: Sequence[float],
) -> Iterator[tuple[float, Float[Tensor, "classes features"]]]:
    """Each strength, the strongest first, with the weights that minimise its penalised cross-entropy.

    `inputs` are float32; their last feature, constant 1, isn't penalised.
    """
    loss = _CrossEntropy.of(inputs, labels, classes)
    point = loss.at(torch.zeros(classes, len(inputs), dtype=torch.float64))
    for strength in sorted(strengths, reverse=True):
        penalty = torch.full((len(inputs),), strength, dtype=torch.float64)
        penalty[-1] = 0.0
        for _ in range(NEWTON_STEPS):
            gradient = point.gradient + penalty * point.weights
            if float(gradient.abs().max()) < TOLERANCE:
                break
            further = _line_search(loss, point, gradient, loss.newton_step(point, gradient, penalty), penalty)
            if further is None:
                break
            point = further
        yield strength, point.weights.float()


@dataclass(frozen=True)
class _Point:
    """The mean cross-entropy of all rows at `weights`, and its gradient, both `[classes, features]`."""

    weights: Tensor
    value: float
    gradient: Tensor

    def penalised(self, penalty: Tensor) -> float:
        return self.value + 0.5 * float((penalty * self.weights**2).sum())


@dataclass(frozen=True)
class _CrossEntropy:
    """Of `inputs` `[features, rows]`; `target` `[classes, features]` is the mean of targets times inputs.

    The Hessian is of a `sample` `[features, some]`. But for the constant its features have mean squares
    `squares` `[axes]` along `axes` `[features - 1, axes]`, and nothing across them.
    """

    inputs: Tensor
    target: Tensor
    sample: Tensor
    axes: Tensor
    squares: Tensor

    @classmethod
    def of(cls, inputs: Tensor, labels: Tensor, classes: int) -> "_CrossEntropy":
        features, rows = inputs.shape
        targets = torch.nn.functional.one_hot(labels, classes).to(inputs)
        sample = inputs
        if rows > ROWS_PER_FEATURE * features:
            drawn = torch.randperm(rows, generator=torch.Generator().manual_seed(0))
            sample = inputs[:, drawn[: ROWS_PER_FEATURE * features]]
        return cls(inputs, (inputs @ targets).T.double() / rows, sample, *_principal(sample[:-1]))

    def at(self, weights: Tensor) -> _Point:
        total, gradient = 0.0, torch.zeros_like(weights)
        for block in torch.split(self.inputs, BLOCK, dim=1):
            logits = weights.float() @ block
            highest = logits.amax(0)
            odds = logits.sub_(highest).exp_()
            sums = odds.sum(0)
            total += float((sums.log() + highest).sum(dtype=torch.float64))
            gradient += odds.div_(sums) @ block.T
        rows = self.inputs.shape[1]
        value = total / rows - float((weights * self.target).sum())
        return _Point(weights, value, gradient / rows - self.target)

    def newton_step(self, point: _Point, gradient: Tensor, penalty: Tensor) -> Tensor:
        """Preconditioned conjugate gradients on the Newton system of the sample."""
        probabilities = torch.softmax(point.weights.float() @ self.sample, dim=0)
        shares = probabilities / self.sample.shape[1]
        # A trace of ridge keeps the free bias's null direction away.
        ridge = (penalty + 1e-9).float()
        doubt = (shares - shares * probabilities).sum(1, keepdim=True)
        along = doubt * self.squares + ridge[0]
        across = doubt * NARROWEST * self.squares[-1] + ridge[0]

        def precondition(vector: Tensor) -> Tensor:
            features, bias = vector[:, :-1], vector[:, -1:]
            inside = features @ self.axes
            outside = features - inside @ self.axes.T
            scaled = (inside / along) @ self.axes.T + outside / across
            return torch.cat([scaled, bias / (doubt + ridge[-1])], dim=1)

        def curvature(vector: Tensor) -> Tensor:
            change = vector @ self.sample
            weighted = shares * change
            weighted.addcmul_(probabilities, weighted.sum(0), value=-1)
            return torch.addcmul(weighted @ self.sample.T, ridge, vector)

        step = torch.zeros_like(gradient, dtype=torch.float32)
        residual = -gradient.float()
        search = precondition(residual)
        power = (residual * search).sum()
        goal = 0.01 * float(power)
        for _ in range(CONJUGATE_STEPS):
            bent = curvature(search)
            stride = power / (search * bent).sum().clamp_min(1e-30)
            step += stride * search
            residual -= stride * bent
            scaled = precondition(residual)
            after = (residual * scaled).sum()
            if float(after) <= goal:
                break
            search = scaled + after / power * search
            power = after
        return step.double()


def _principal(sample: Tensor) -> tuple[Tensor, Tensor]:
    """Orthonormal axes `[features, axes]` that `sample` `[features, rows]` spans, and its mean squares there.

    From the smaller of its two products with itself; the axis of the largest is the last.
    """
    features, rows = sample.shape
    if features <= rows:
        squares, axes = torch.linalg.eigh(sample @ sample.T / rows)
        return axes, squares.clamp_min(0)
    squares, mixed = torch.linalg.eigh(sample.T @ sample / rows)
    kept = squares > NARROWEST * squares[-1]
    return sample @ mixed[:, kept] / (rows * squares[kept]).sqrt(), squares[kept]


def _line_search(
    loss: _CrossEntropy, point: _Point, gradient: Tensor, step: Tensor, penalty: Tensor
) -> _Point | None:
    """Halve the step until the objective falls enough (Armijo); None where it never does."""
    slope = float((gradient * step).sum())
    before = point.penalised(penalty)
    for halvings in range(HALVINGS):
        stride = 0.5**halvings
        trial = loss.at(point.weights + stride * step)
        if trial.penalised(penalty) <= before + 1e-4 * stride * slope + ROUNDING:
            return trial
    return None
