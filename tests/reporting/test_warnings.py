from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from latentops.atomic import write_json
from latentops.config import Params
from latentops.reporting.results import Health, comparison
from latentops.reporting.warnings import CATALOGUE, TOGETHER, Number, Warned, health, warned

Edit = Callable[[str, Callable[[dict[str, Any]], None]], None]


def by_name(root: Path, params: Params, dataset: str = "digits") -> dict[str, Warned]:
    return {one.warning: one for one in warned(comparison(dataset, root), params, root)}


def diagnose(variant: str, name: str, mean: float, spread: float) -> Callable[[dict[str, Any]], None]:
    """Give a variant a health number."""

    def change(value: dict[str, Any]) -> None:
        for row in value["rows"]:
            if row["name"] == variant:
                found = {"mean": mean, "low": mean - spread, "high": mean + spread, "values": [mean] * 5}
                row["diagnosis"][name] = found

    return change


@pytest.mark.parametrize(
    ("side", "low", "high", "raised"),
    [
        ("above", 0.51, 0.6, True),
        ("above", 0.4, 0.6, False),
        ("below", 0.4, 0.6, False),
        ("below", 0.3, 0.4, True),
    ],
)
def test_a_number_is_raised_where_its_whole_interval_lies_beyond(
    side: Any, low: float, high: float, raised: bool
) -> None:
    found = Health(mean=(low + high) / 2, low=low, high=high)
    assert Number("x", health("x"), side, 0.5).raised(found) is raised
    assert not Number("x", health("x")).raised(found)
    assert not Number("x", health("x"), side, 0.5).raised(Health(mean=None))


def test_a_code_that_copies_raises_the_warning_of_its_variant_alone(
    edit: Edit, project: Path, params: Params
) -> None:
    identity = "overcomplete learns the identity"
    assert not by_name(project, params)[identity].measured
    edit("digits", diagnose("overcomplete", "copy_score", 0.9, 0.05))
    edit("digits", diagnose("sparse", "copy_score", 0.2, 0.05))
    found = by_name(project, params)[identity]
    assert found.raised == ["overcomplete"]
    assert [value.variant for value in found.numbers[0].values] == ["overcomplete", "sparse"]


def test_a_collapsed_posterior_is_told_over_the_codes_size(edit: Edit, project: Path, params: Params) -> None:
    edit("digits", diagnose("variational", "active_units", 3.0, 0.5))  # of 8
    edit("digits", diagnose("sparse", "active_units", 3.0, 0.5))  # means another thing there
    found = by_name(project, params)["posterior collapse"]
    assert found.raised == ["variational"]
    assert [value.text for value in found.numbers[0].values] == ["0.375"]


def test_the_correlation_is_of_all_variants_together(edit: Edit, project: Path, params: Params) -> None:
    first = CATALOGUE[0].warning
    assert by_name(project, params)[first].raised == [TOGETHER]  # -0.27
    edit("digits", lambda value: value.update(error_rank_correlation=-0.9))
    assert by_name(project, params)[first].raised == []
    edit("digits", lambda value: value.update(error_rank_correlation=None))
    assert not by_name(project, params)[first].measured


def test_a_corruption_that_was_not_trained_for_is_held_against_the_plain_variant(
    finished: Path, params: Params
) -> None:
    """Under others the toy denoising variant's error is three quarters of the plain one's."""
    told = by_name(finished, params)["corruption mismatch hurts transfer"].numbers[0]
    assert [(value.variant, value.text, value.raised) for value in told.values] == [
        ("denoising", "0.750", False)
    ]


def test_every_knob_is_one_of_params_yaml(finished: Path, params: Params) -> None:
    for entry, found in zip(CATALOGUE, by_name(finished, params).values(), strict=True):
        assert all(value for _, value in found.knobs), f"{entry.warning}: {found.knobs}"


def test_what_was_measured_of_the_remedies_is_counted(project: Path, params: Params) -> None:
    rows = [
        {"warning": "posterior collapse", "verdict": verdict}
        for verdict in ("helps", "helps", "no effect shown", "hurts")
    ]
    write_json(project / "benchmarks/remedies.json", {"rows": rows})
    found = by_name(project, params)
    assert found["posterior collapse"].studies == "2 help, 1 shows no effect, 1 hurts"
    assert found["blurred reconstructions"].studies == ""
