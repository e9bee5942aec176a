"""What the field says of architectures: artefacts, context, match with the data, memory over many steps."""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from benchmarks.remedies.study import SEEDS, Finding, samples, trained
from latentops.config import Architectures, Budget, load_params
from latentops.data.prepared import Description, Samples
from latentops.data.transforms import Transform
from latentops.evaluation.probe import linear_probe
from latentops.evaluation.structure import checkerboard_energy, hidden_error
from latentops.training.loop import Look, fit
from latentops.training.members import Member
from latentops.training.trained import Recipe, Trained

LAGS = (4, 16, 32)
"""Steps between what is to be recalled and the last one."""

BITS = 4
"""Channels of a sequence whose first step is to be recalled, and size of its code."""

RECALLING: Mapping[str, tuple[str, dict[str, object]]] = {
    "GRU": ("recurrent", {"cell": "gru", "hidden": 32}),
    "LSTM": ("recurrent", {"cell": "lstm", "hidden": 27}),
    "Transformer": ("transformer", {"layers": 1, "width": 20}),
}
"""Architectures of about as many parameters each; a Transformer's decoder has more for longer sequences."""

RECALL_STEPS = 400

SEQUENCES = "digit_columns"
TABLE = "breast_cancer"
STEPS = 500

Sizes = dict[str, dict[str, object]]

AUTOREGRESSIVE: Sizes = {"recurrent": {"decoder": "autoregressive"}}


def findings() -> Iterator[Finding]:
    """Each comparison that the field makes, also where it makes no difference."""
    yield from artefacts()
    yield from match()
    yield from context()
    yield from recall()
    yield from detail()
    yield from history()


def artefacts() -> Iterator[Finding]:
    """Energy at the stride's frequency, of transposed and of resize-convolutions."""
    warning = "deconvolution leaves artefacts"
    transposed, resized = (
        trained("convolutional", sizes={"convolutional": {"up": up}}) for up in ("transposed", "resize")
    )
    own = _energy(samples("digits", "stop").values[None])[0]
    for name, pair in (
        ("at the initial weights", (transposed.untrained(), resized.untrained())),
        ("once trained", (transposed, resized)),
    ):
        found = [_energy(each.reconstruct(samples("digits", "stop"))) for each in pair]
        without, remedied = ([value / own for value in each] for each in found)
        number = f"energy at the stride's frequency over the data's own, {name}"
        yield Finding(warning, number, "resize-convolution", without, remedied)


def match() -> Iterator[Finding]:
    """Probe accuracy of an architecture that fits the data and of one that doesn't, of similar size."""
    warning, number = "the architecture should match the data", "probe accuracy"
    perceptron = trained("undercomplete", architecture="mlp")
    convolution = trained("convolutional", sizes={"convolutional": {"channels": [28, 56]}})
    sizes = f"{convolution.parameters} parameters against {perceptron.parameters}"
    yield Finding(
        warning, f"{number} on digits", f"convolution instead of a perceptron ({sizes})",
        _probe(perceptron, "digits"), _probe(convolution, "digits"), "higher",
    )  # fmt: skip
    small: Sizes = {"mlp": {"hidden": [90, 44]}}
    mismatched = trained("undercomplete", "digit_columns", architecture="mlp", sizes=small)
    fitting: Sizes = {"recurrent": {"hidden": 48}, "transformer": {"layers": 1}}
    for name, options in fitting.items():
        matched = trained("sequence", "digit_columns", architecture=name, sizes={name: options})
        sizes = f"{matched.parameters} parameters against {mismatched.parameters}"
        yield Finding(
            warning, f"{number} on digit_columns", f"{name} instead of a perceptron ({sizes})",
            _probe(mismatched, "digit_columns"), _probe(matched, "digit_columns"), "higher",
        )  # fmt: skip
    fits = trained("undercomplete", TABLE)
    unfit: Sizes = {"convolutional": {"channels": [12, 24]}, "recurrent": {"hidden": 24}}
    for name, options in unfit.items():
        astray = trained("undercomplete", TABLE, name, sizes={name: options})
        sizes = f"{fits.parameters} parameters against {astray.parameters}"
        yield Finding(
            warning, f"{number} on {TABLE}", f"a perceptron instead of {name} ({sizes})",
            _probe(astray, TABLE), _probe(fits, TABLE), "higher",
        )  # fmt: skip


def context() -> Iterator[Finding]:
    """Error of what is hidden from the encoder, by its distance from what isn't."""
    warning = "convolution loses global context"
    remedies: Sizes = {
        "self-attention at the smallest map": {"residual": 1, "attention": True},
        "dilation 2": {"residual": 1, "dilation": 2},
    }
    plain = _hidden_error({"residual": 1})
    for remedy, options in remedies.items():
        remedied = _hidden_error(options)
        for distance in (1, 3):
            yield Finding(
                warning, f"squared error {distance} columns into a half that was hidden", remedy,
                plain[:, distance - 1].tolist(), remedied[:, distance - 1].tolist(),
            )  # fmt: skip


def recall() -> Iterator[Finding]:
    """Share of the first step's signs that are written back right, by how many steps came after it."""
    for lag in LAGS:
        plain, parameters = _recalled("GRU", lag)
        for name, words in (("LSTM", "an LSTM"), ("Transformer", "a Transformer")):
            recalled, others = _recalled(name, lag)
            yield Finding(
                "long range is lost over many steps",
                f"recall of the first step after {lag} others, {RECALL_STEPS} steps of training",
                f"{words} instead of a GRU ({others} parameters against {parameters})",
                plain, recalled, "higher",
            )  # fmt: skip


def detail() -> Iterator[Finding]:
    """What a decoder that goes by the step before keeps of a sequence, and what codes of its steps do."""
    warning = "sequences lose fine detail"
    plain = trained("sequence", SEQUENCES, steps=STEPS)
    for remedy, other in (
        ("decoder: autoregressive", trained("sequence", SEQUENCES, steps=STEPS, sizes=AUTOREGRESSIVE)),
        ("latent: per_step", trained("sequence", SEQUENCES, steps=STEPS, latent="per_step")),
    ):
        before, after = (each.diagnose(samples(SEQUENCES, "stop")) for each in (plain, other))
        for name in ("fast_error", "late_error"):
            yield Finding(warning, f"{name} ({SEQUENCES})", remedy, before[name], after[name])
        yield Finding(
            warning, f"probe accuracy ({SEQUENCES})", remedy,
            _probe(plain, SEQUENCES), _probe(other, SEQUENCES), "higher",
        )  # fmt: skip


def history() -> Iterator[Finding]:
    """Nats of a variational code beside a decoder that can do without it."""
    warning = "a decoder that goes by the past leaves the code unused"

    def variational(sizes: Sizes, free_bits: float = 0.0) -> Trained:
        return trained("variational", SEQUENCES, "recurrent", steps=STEPS, sizes=sizes, free_bits=free_bits)

    plain = variational(AUTOREGRESSIVE)
    for remedy, other in (
        ("decoder: conditioned", variational({})),
        ("free_bits: 1", variational(AUTOREGRESSIVE, free_bits=1.0)),
    ):
        before, after = (each.diagnose(samples(SEQUENCES, "stop"))["kl"] for each in (plain, other))
        yield Finding(warning, f"KL ({SEQUENCES})", remedy, before, after, "higher")
        yield Finding(
            warning, f"probe accuracy ({SEQUENCES}, variational)", remedy,
            _probe(plain, SEQUENCES), _probe(other, SEQUENCES), "higher",
        )  # fmt: skip


def _energy(images: np.ndarray) -> list[float]:
    return [checkerboard_energy(each) for each in images]


def _probe(model: Trained, dataset: str) -> list[float]:
    """Accuracy on the stop rows, which also choose the probe's strength."""
    train, stop = samples(dataset, "train"), samples(dataset, "stop")
    codes = [torch.tensor(model.encode(each)) for each in (train, stop)]
    labels = [torch.tensor(each.labels) for each in (train, stop)]
    strengths = load_params().evaluation.probe.strengths
    found = linear_probe(codes[0], labels[0], codes[1], labels[1], codes[1], labels[1], strengths)
    accuracy: list[float] = found.correct.double().mean(1).tolist()
    return accuracy


def _hidden_error(options: dict[str, object]) -> np.ndarray:
    """Mean squared error `[seeds, columns]` of a digit's right half, which the encoder doesn't see."""
    model = trained("convolutional", sizes={"convolutional": options})
    return hidden_error(model, samples("digits", "stop"))


def _signs(rows: int, lag: int, seed: int) -> Samples:
    """Sequences whose first step is random signs; the others are noise."""
    random = np.random.default_rng(seed)
    values = random.normal(scale=0.1, size=(rows, lag + 1, BITS)).astype(np.float32)
    values[:, 0] = random.choice([-1.0, 1.0], size=(rows, BITS))
    lengths = np.full(rows, lag + 1)
    return Samples(values, lengths, np.zeros(rows, np.int64), np.zeros((rows, 32), np.uint8))


def _recalled(name: str, lag: int) -> tuple[list[float], int]:
    """What one of `RECALLING` gets right, one share a seed, and how many parameters it has."""
    params = load_params()
    architecture, options = RECALLING[name]
    sizes = params.dataset("digit_columns").architectures.model_dump()
    sizes[architecture] |= options
    described = Description("sequence", (lag + 1, BITS), (), ("all",), Transform.from_range(0, 1), spread=0.3)
    section: dict[str, object] = {"architecture": architecture}
    recipe = Recipe.resolve("sequence", section, "mlp", Architectures.model_validate(sizes), BITS, described)
    members = [Member(seed, "all") for seed in SEEDS]
    model = recipe.build(members)
    budget = params.training.budget[recipe.architecture].model_copy(update={"steps": RECALL_STEPS})

    def ignore(look: Look) -> None:
        del look

    rows = _signs(1000, lag, 0), _signs(128, lag, 1), _signs(500, lag, 2)
    fit(
        model, members, rows[0], rows[1], ("all",), params.training, Budget(**budget.model_dump()),
        torch.device("cpu"), ignore,
    )  # fmt: skip
    stack = Trained(model, members, recipe)
    rebuilt = stack.reconstruct(rows[2])[:, :, 0]
    right: Tensor = torch.tensor(np.sign(rebuilt) == rows[2].values[:, 0]).double()
    accuracy: list[float] = right.mean((1, 2)).tolist()
    return accuracy, stack.parameters
