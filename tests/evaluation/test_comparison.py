from dataclasses import replace

import numpy as np
import pytest

from latentops.config import Comparison
from latentops.errors import DataError
from latentops.evaluation.comparison import (
    Row,
    best_seed,
    choose,
    compare,
    health,
    reconstruction_cost,
    reconstruction_costs,
    retention_gate,
    rivals_of,
)
from latentops.evaluation.contingency import CLASSIFIED, Contingency
from latentops.evaluation.statistics import Resampling, average_precision, false_alarm_at_95

LABELS = np.arange(120) % 3
CLASSES = ("a", "b", "c")
SETTINGS = Comparison(resamples=500, confidence=0.95, seed=0)
RETENTION = 0.9


def row(name: str, role: str, size: int | None, accuracy: float, stop: float = 0.0, seeds: int = 4) -> Row:
    """A row whose probe is right on `accuracy` of the items, other ones for every seed."""
    random = np.random.default_rng(sum(map(ord, name)))
    correct = (random.random((seeds, len(LABELS))) < accuracy).astype(np.uint8)
    predicted = np.where(correct, LABELS, (LABELS + 1) % 3).astype(np.uint16)
    scores = random.normal(size=(seeds, len(LABELS))).astype(np.float32) + 2 * accuracy * (LABELS != 0)
    values = {
        "probe_accuracy": correct.mean(axis=1).tolist(),
        "stop_probe_accuracy": [stop or accuracy] * seeds,
        **{
            name: [float(of(Contingency.of(LABELS, each))[0]) for each in predicted]
            for name, of in CLASSIFIED.items()
        },
        "auroc": [0.5] * seeds,
        "average_precision": [average_precision(each, LABELS != 0) for each in scores],
        "false_alarm_at_95": [false_alarm_at_95(each, LABELS != 0) for each in scores],
        "reconstruction_error": [1 - accuracy] * seeds,
    }
    samples = {
        "probe_predicted": predicted,
        "score/a/auroc": scores,
        "reconstruction_error": np.full((seeds, len(LABELS)), 1 - accuracy, dtype=np.float32),
    }
    return Row(name, role, size, list(range(seeds)), values, samples)


def board() -> list[Row]:
    return [
        row("sparse", "variant", 8, 0.9),
        row("denoising", "variant", 8, 0.85),
        row("overcomplete", "variant", 64, 0.95),
        row("untrained sparse", "rival", 8, 0.5),
        row("untrained denoising", "rival", 8, 0.5),
        row("untrained overcomplete", "rival", 64, 0.93),
        row("PCA-8", "rival", 8, 0.7, seeds=1),
        row("random ReLU features-64", "rival", 64, 0.96),
        row("raw", "reference", None, 0.97, seeds=1),
    ]


def test_a_variants_rivals_have_its_size_and_no_other_variants_encoder() -> None:
    rows = board()
    assert [each.name for each in rivals_of(rows[0], rows)] == ["untrained sparse", "PCA-8"]
    assert [each.name for each in rivals_of(rows[2], rows)] == [
        "untrained overcomplete",
        "random ReLU features-64",
    ]


def test_what_leads_its_rivals_is_chosen_over_what_is_merely_larger() -> None:
    assert choose(board(), "probe_accuracy").name == "sparse"


def test_the_choice_follows_the_stop_rows_alone() -> None:
    rows = [
        *board()[2:],
        row("sparse", "variant", 8, 0.9, stop=0.6),
        row("denoising", "variant", 8, 0.1, stop=0.99),
    ]
    assert choose(rows, "probe_accuracy").name == "denoising"


def test_the_seed_is_the_one_best_on_stop() -> None:
    sparse = board()[0]
    sparse.values["stop_probe_accuracy"][2] = 0.99
    assert best_seed(sparse, "probe_accuracy") == 2


def test_nothing_to_choose_from_is_an_error() -> None:
    with pytest.raises(DataError, match="no variant"):
        choose(board()[3:], "probe_accuracy")


def test_a_clear_lead_passes_every_gate() -> None:
    alive = dict.fromkeys(("sparse", "denoising", "overcomplete"), True)
    result = compare(board(), LABELS, CLASSES, "probe_accuracy", alive, SETTINGS, RETENTION)
    assert result["chosen"]["variant"] == "sparse"
    assert result["passed"]
    assert [gate["gate"] for gate in result["gates"]] == [
        "beats untrained sparse",
        "beats PCA-8",
        "keeps its share of raw",
        "alive",
    ]


@pytest.mark.parametrize(
    ("change", "gate"),
    [("alive", "alive"), ("retention", "keeps its share of raw"), ("rival", "beats PCA-8")],
)
def test_each_gate_can_hold(change: str, gate: str) -> None:
    alive = {"sparse": change != "alive", "denoising": True, "overcomplete": True}
    retention = 0.99 if change == "retention" else RETENTION
    rows = board()
    if change == "rival":
        rows[6] = row("PCA-8", "rival", 8, 0.9, stop=0.7, seeds=1)
    result = compare(rows, LABELS, CLASSES, "probe_accuracy", alive, SETTINGS, retention)
    assert not result["passed"]
    assert [each["gate"] for each in result["gates"] if not each["passed"]] == [gate]


def test_no_share_is_kept_of_a_reference_that_tells_nothing() -> None:
    def of(name: str, role: str, r2: float) -> Row:
        return Row(name, role, 8, [0], {"r2": [r2]}, {})

    for ours, theirs, passed in (
        (-0.3, -0.1, False),
        (0.1, -0.1, True),
        (0.8, 0.85, True),
        (0.7, 0.85, False),
    ):
        gate = retention_gate(of("x", "variant", ours), [of("raw", "reference", theirs)], "r2", 0.9)
        assert gate["passed"] is passed


def test_every_metric_has_an_interval_around_its_mean() -> None:
    alive = dict.fromkeys(("sparse", "denoising", "overcomplete"), True)
    result = compare(board(), LABELS, CLASSES, "probe_accuracy", alive, SETTINGS, RETENTION)
    for each in result["rows"]:
        for metric in (each["metrics"][name] for name in ("probe_accuracy", *CLASSIFIED)):
            assert metric["low"] <= metric["mean"] <= metric["high"]
            assert metric["mean"] == pytest.approx(np.mean(metric["values"]))
    assert result["error_rank_correlation"] == pytest.approx(-1.0)


def test_corrected_p_values_are_never_smaller() -> None:
    alive = dict.fromkeys(("sparse", "denoising", "overcomplete"), True)
    result = compare(board(), LABELS, CLASSES, "probe_accuracy", alive, SETTINGS, RETENTION)
    assert all(each["p_holm"] >= each["p_value"] for each in result["comparisons"])


def every(rows: list[Row]) -> dict[str, bool]:
    return {each.name: True for each in rows if each.role == "variant"}


def test_every_pair_of_variants_is_compared_once_and_corrected() -> None:
    rows = board()
    found = compare(rows, LABELS, CLASSES, "probe_accuracy", every(rows), SETTINGS, RETENTION)[
        "among_variants"
    ]
    pairs = [(each["variant"], each["against"]) for each in found if each["metric"] == "probe_accuracy"]
    assert pairs == [("sparse", "denoising"), ("sparse", "overcomplete"), ("denoising", "overcomplete")]
    assert {each["metric"] for each in found} == {"probe_accuracy", "auroc"}
    for each in found:
        assert each["p_holm"] >= each["p_value"]
        assert each["low"] <= each["difference"] <= each["high"]
        shown = each["p_holm"] <= 0.05
        assert each["verdict"] == (
            ("better" if each["difference"] > 0 else "worse") if shown else "no difference shown"
        )


def test_variants_that_give_the_same_are_not_told_apart_and_clear_ones_are() -> None:
    same = row("sparse", "variant", 8, 0.9)
    rows = [
        same,
        replace(same, name="denoising"),
        row("contractive", "variant", 8, 0.5, stop=0.1),
        *board()[3:],
    ]
    found = compare(rows, LABELS, CLASSES, "probe_accuracy", every(rows), SETTINGS, RETENTION)
    assert found["chosen"]["variant"] == "sparse"
    assert found["not_told_apart"] == ["denoising"]
    pairs = [each for each in found["among_variants"] if each["metric"] == "probe_accuracy"]
    verdicts = {(each["variant"], each["against"]): each["verdict"] for each in pairs}
    assert verdicts == {
        ("sparse", "denoising"): "no difference shown",
        ("sparse", "contractive"): "better",
        ("denoising", "contractive"): "better",
    }
    assert pairs[0]["p_value"] == 1
    assert pairs[0]["low"] == pairs[0]["high"] == 0


def test_the_rank_correlation_lies_in_its_interval() -> None:
    rows = board()
    found = compare(rows, LABELS, CLASSES, "probe_accuracy", every(rows), SETTINGS, RETENTION)
    low, high = found["error_rank_interval"]
    assert low <= found["error_rank_correlation"] + 1e-9 <= high + 2e-9


def test_the_size_of_the_blocks_that_resamples_come_in_changes_no_estimate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    alive = dict.fromkeys(("sparse", "denoising", "overcomplete"), True)
    whole = compare(board(), LABELS, CLASSES, "probe_accuracy", alive, SETTINGS, RETENTION)
    draw = Resampling.draw
    monkeypatch.setattr(Resampling, "draw", lambda *given: draw(*given, block=100 * len(LABELS)))
    parts = compare(board(), LABELS, CLASSES, "probe_accuracy", alive, SETTINGS, RETENTION)
    for one, other in zip(whole["rows"], parts["rows"], strict=True):
        for metric, found in one["metrics"].items():
            assert found["mean"] == other["metrics"][metric]["mean"]
            assert found["low"] == pytest.approx(other["metrics"][metric]["low"], abs=0.05)


def test_a_health_number_has_students_interval_over_its_seeds() -> None:
    found = health({"dead_units": [0.0, 2.0, 1.0], "kl": [1.0, np.nan, 3.0], "one": [4.0]}, 0.95)
    dead = found["dead_units"]
    assert dead["mean"] == 1
    assert dead["low"] < 0 < 2 < dead["high"]
    assert found["kl"] == {"mean": None, "low": None, "high": None, "values": [1.0, None, 3.0]}
    assert found["one"]["mean"] == 4
    assert found["one"]["low"] is None


def test_the_cost_is_the_error_over_a_plain_models() -> None:
    assert reconstruction_cost([2.0, 3.0], [1.0, 2.0]) == [2.0, 1.5]
    assert np.isnan(reconstruction_cost([2.0], [0.0])[0])


def test_every_variant_pays_what_it_reconstructs_worse_than_the_plain_one_with_the_same_seed() -> None:
    rows = [*board(), row("undercomplete", "variant", 8, 0.9)]
    rows[0].values["reconstruction_error"] = [0.1, 0.2, 0.3, 0.4]
    rows[-1].values["reconstruction_error"] = [0.4, 0.3, 0.2, 0.1]
    rows[-1].seeds.reverse()
    costs = reconstruction_costs(rows)
    assert set(costs) == {"sparse", "denoising", "overcomplete", "undercomplete"}
    assert costs["sparse"] == pytest.approx([1.0] * 4)
    assert costs["undercomplete"] == [1.0] * 4
    rows[-1].seeds[:] = [0, 1, 2, 9]
    assert np.isnan(reconstruction_costs(rows)["sparse"]).tolist() == [False, False, False, True]


def test_without_a_plain_variant_there_is_no_cost() -> None:
    assert reconstruction_costs(board()) == {}


def without(rows: list[Row], metric: str) -> list[Row]:
    kept = [{name: values for name, values in each.values.items() if name != metric} for each in rows]
    return [replace(each, values=values) for each, values in zip(rows, kept, strict=True)]


def test_where_the_stop_rows_cannot_tell_nothing_is_chosen() -> None:
    rows = without(board(), "stop_probe_accuracy")
    found = compare(rows, LABELS, CLASSES, "probe_accuracy", {}, SETTINGS, RETENTION)
    assert (found["chosen"], found["gates"], found["passed"]) == (None, [], False)
    assert (found["not_told_apart"], found["error_rank_interval"]) == ([], None)
    assert len(found["rows"]) == len(rows)


def test_where_the_test_rows_cannot_tell_there_is_no_board() -> None:
    with pytest.raises(DataError, match="the test rows have no probe_accuracy"):
        compare(
            without(board(), "probe_accuracy"), LABELS, CLASSES, "probe_accuracy", {}, SETTINGS, RETENTION
        )
