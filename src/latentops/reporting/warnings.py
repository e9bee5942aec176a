"""What the field warns of, as a number of every variant, and what to turn where it has come true.

A number is raised where its whole interval lies beyond the limit; the limits are rules of thumb, and choose
nothing. What takes trainings of its own is told from `benchmarks/remedies.json`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from latentops.config import Params
from latentops.reporting import profiles
from latentops.reporting.leaderboard import interval, number
from latentops.reporting.results import Comparison, Health, Result, Row, read

PATH = Path("benchmarks/remedies.json")
Found = Callable[[Row, Row | None], Health | None]
"""A number of a variant's row, with the plain variant's row to hold it against; None where it has none."""


@dataclass(frozen=True)
class Number:
    """What is looked at, and the limit above or below which it is raised; without one it is only told."""

    words: str
    of: Found
    side: Literal["above", "below"] | None = None
    limit: float = 0.0

    @property
    def rule(self) -> str:
        """`above 0.5`, or nothing."""
        return f"{self.side} {self.limit:g}".replace("-", "−") if self.side else ""

    def raised(self, found: Health) -> bool:
        """Whether the interval, or for want of one the mean, lies beyond the limit."""
        if found.mean is None or self.side is None:
            return False
        if self.side == "above":
            return (found.mean if found.low is None else found.low) > self.limit
        return (found.mean if found.high is None else found.high) < self.limit


@dataclass(frozen=True)
class Entry:
    """A warning: its numbers, the knobs of params.yaml that help, and where its studies are filed.

    `together` is a number of all variants, `advice` is said beside the knobs, or in their place.
    """

    warning: str
    numbers: tuple[Number, ...] = ()
    knobs: tuple[str, ...] = ()
    studies: tuple[str, ...] = ()
    advice: str = ""
    together: Number | None = None


@dataclass(frozen=True)
class Value:
    """A variant's number as it is shown."""

    variant: str
    text: str
    interval: str
    raised: bool


@dataclass(frozen=True)
class Told:
    """One number of a warning: what it is, when it is raised, and every variant's value."""

    words: str
    rule: str
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Warned:
    """A warning on one dataset."""

    warning: str
    numbers: tuple[Told, ...]
    knobs: tuple[tuple[str, str], ...]
    advice: str
    studies: str

    @property
    def raised(self) -> list[str]:
        """The variants, or `all together`, of which a number is raised."""
        return list(dict.fromkeys(v.variant for told in self.numbers for v in told.values if v.raised))

    @property
    def measured(self) -> bool:
        """Whether there is any number on this dataset."""
        return any(told.values for told in self.numbers)


def health(name: str, *variants: str) -> Found:
    """The health number `name`, of `variants` alone where any are named."""

    def found(row: Row, plain: Row | None) -> Health | None:
        return row.diagnosis.get(name) if not variants or row.name in variants else None

    return found


def of_size(name: str, variant: str) -> Found:
    """The health number `name` of `variant`, over the size of its code."""

    def found(row: Row, plain: Row | None) -> Health | None:
        one = row.diagnosis.get(name)
        if row.name != variant or one is None or not row.latent_dim:
            return None
        mean, low, high = (None if v is None else v / row.latent_dim for v in (one.mean, one.low, one.high))
        return Health(mean=mean, low=low, high=high)

    return found


def furthest(name: str, variant: str) -> Found:
    """The profile `name` of `variant` at its last place."""

    def found(row: Row, plain: Row | None) -> Health | None:
        one = row.profiles.get(name)
        if row.name != variant or one is None:
            return None
        return Health(mean=one.mean[-1], low=one.low[-1], high=one.high[-1])

    return found


def mismatch(row: Row, plain: Row | None) -> Health | None:
    """Error under corruptions that were not trained with, over the plain variant's."""
    ratio = profiles.mismatch(row, plain) if plain else None
    return None if ratio is None else Health(mean=ratio)


CATALOGUE = (
    Entry(
        "a good reconstruction is not a good code",
        advice="the leaderboard ranks by the downstream metric, the stop rows choose by it",
        studies=("a good reconstruction is not a good code",),
        together=Number(
            "rank correlation of reconstruction error with the primary metric",
            lambda row, plain: None,
            "above",
            -0.5,
        ),
    ),
    Entry(
        "a bottleneck too narrow underfits, too wide copies",
        (Number("R² of the reconstruction", health("explained"), "below", 0.5),),
        ("datasets.*.latent_dim",),
        ("a bottleneck too narrow underfits", "a bottleneck too wide copies"),
        "make sweep draws error, probe and AUROC over the size",
    ),
    Entry(
        "overcomplete learns the identity",
        (Number("copy score: R² on rows whose columns were permuted", health("copy_score"), "above", 0.5),),
        ("variants.overcomplete.regulariser", "variants.overcomplete.expansion"),
        ("overcomplete learns the identity",),
    ),
    Entry(
        "too much sparsity hurts; its weight is delicate",
        (
            Number("units never active", health("dead_units", "sparse"), "above", 0),
            Number("units active a row", health("active_units", "sparse")),
            Number("Hoyer index", health("hoyer", "sparse")),
            Number("error over the plain variant's", health("reconstruction_cost", "sparse"), "above", 2),
        ),
        ("variants.sparse.activity", "variants.sparse.controller", "variants.sparse.revive"),
        ("too much sparsity hurts", "the weight of sparsity is delicate", "units die"),
    ),
    Entry("robust to irrelevant features?", studies=("robust to irrelevant features?",)),
    Entry(
        "corruption mismatch hurts transfer",
        (
            Number("error under other corruptions over the plain variant's", mismatch, "above", 1),
            Number("noise kept", health("noise_kept"), "above", 0.9),
        ),
        ("variants.denoising.corruption", "variants.denoising.level"),
        ("corruption mismatch hurts transfer",),
        "corruption: mixed",
    ),
    Entry(
        "the Jacobian penalty costs compute",
        (Number("error of the estimated norm", health("estimate_error", "contractive"), "above", 0.1),),
        ("variants.contractive.norm", "variants.contractive.draws"),
        ("the Jacobian penalty costs compute",),
    ),
    Entry(
        "too much contraction collapses variation",
        (
            Number("code variance", health("code_variance", "contractive"), "below", 0.01),
            Number(
                "effective rank over the code's size", of_size("effective_rank", "contractive"), "below", 0.5
            ),
            Number("top singular value's share", health("jacobian_top", "contractive"), "above", 0.5),
        ),
        ("variants.contractive.weight", "variants.contractive.warmup", "variants.contractive.scale"),
        ("too much contraction collapses variation",),
    ),
    Entry(
        "posterior collapse",
        (
            Number("active units over the code's size", of_size("active_units", "variational"), "below", 1),
            Number("least unit's KL, nats", health("kl_unit_least", "variational"), "below", 0.1),
            Number("mutual information, nats", health("mutual_information", "variational")),
        ),
        ("variants.variational.beta", "variants.variational.warmup", "variants.variational.free_bits"),
        ("posterior collapse",),
    ),
    Entry(
        "blurred reconstructions",
        (Number("high-frequency energy kept", health("sharpness_kept"), "below", 0.75),),
        (),
        ("blurred reconstructions", "variational models blur"),
        "another variant, or a larger code",
    ),
    Entry(
        "deconvolution leaves artefacts",
        (Number("energy at the stride's frequency over the data's", health("checkerboard"), "above", 1),),
        ("datasets.*.architectures.convolutional.up",),
        ("deconvolution leaves artefacts",),
    ),
    Entry(
        "convolution loses global context",
        (
            Number(
                "error furthest from what it sees, over the data's variance",
                furthest("hidden_error", "convolutional"),
                "above",
                1,
            ),
        ),
        (
            "datasets.*.architectures.convolutional.attention",
            "datasets.*.architectures.convolutional.dilation",
        ),
        ("convolution loses global context",),
    ),
    Entry(
        "sequences lose fine detail; long contexts cost memory",
        (
            Number("error at the last step over that at the first", health("late_error"), "above", 1),
            Number("error of fast changes over the data's own", health("fast_error"), "above", 0.5),
            Number("of slow ones", health("slow_error"), "above", 0.5),
        ),
        ("variants.sequence.latent", "variants.sequence.architecture"),
        ("sequences lose fine detail", "long range is lost over many steps"),
        "memory by length: docs/performance.md",
    ),
    Entry(
        "adversarial training is unstable; its terms need balance",
        (
            Number("discriminator accuracy, 0.5 is balance", health("discriminator_accuracy"), "above", 0.9),
            Number("a classifier tells codes from the prior", health("two_sample_accuracy"), "above", 0.55),
            Number("prior MMD²", health("prior_mmd")),
        ),
        (
            "variants.adversarial.weight",
            "variants.adversarial.spectral_norm",
            "variants.adversarial.gradient_penalty",
            "variants.adversarial.discriminator_rate",
        ),
        ("adversarial training is unstable; terms need balance",),
    ),
)
"""In the design's order."""

TOGETHER = "all together"


class _Study(Result):
    warning: str
    verdict: Literal["helps", "no effect shown", "hurts"]


class _Studies(Result):
    rows: tuple[_Study, ...]


def warned(comparison: Comparison, params: Params, root: Path = Path()) -> list[Warned]:
    """Every warning of the catalogue on one dataset.

    Raises `DataError` where `benchmarks/remedies.json` is there and broken.
    """
    variants = [row for row in comparison.rows if row.role == "variant"]
    plain = next((row for row in variants if row.name == profiles.PLAIN), None)
    correlation = comparison.error_rank_correlation
    together = {TOGETHER: None if correlation is None else Health(mean=correlation)}
    studies: Sequence[_Study] = ()
    if (root / PATH).exists():
        studies = read(_Studies, root / PATH, "make bench-remedies").rows
    settings = params.model_dump(mode="json")
    return [
        Warned(
            entry.warning,
            tuple(_told(each, {row.name: each.of(row, plain) for row in variants}) for each in entry.numbers)
            + tuple(_told(each, together) for each in (entry.together,) if each),
            tuple(_set(knob, comparison.dataset, settings) for knob in entry.knobs),
            entry.advice,
            _counted([study for study in studies if study.warning in entry.studies]),
        )
        for entry in CATALOGUE
    ]


def _told(one: Number, found: Mapping[str, Health | None]) -> Told:
    values = tuple(
        Value(name, number(each.mean), interval(each), one.raised(each))
        for name, each in found.items()
        if each is not None
    )
    return Told(one.words, one.rule, values)


def _set(knob: str, dataset: str, settings: object) -> tuple[str, str]:
    """The knob by its place in params.yaml, and what it is set to; nothing where the file leaves it out."""
    place, at = knob.replace("*", dataset), settings
    for key in place.split("."):
        at = at.get(key) if isinstance(at, Mapping) else None
    return place, "" if at is None else str(at).lower() if isinstance(at, bool) else str(at)


def _counted(studies: Sequence[_Study]) -> str:
    """`6 help, 3 show no effect, 1 hurts`, or nothing."""
    words = {"helps": ("helps", "help"), "no effect shown": ("shows no effect", "show no effect"),
             "hurts": ("hurts", "hurt")}  # fmt: skip
    counts = {verdict: sum(study.verdict == verdict for study in studies) for verdict in words}
    return ", ".join(f"{n} {words[verdict][n > 1]}" for verdict, n in counts.items() if n)
