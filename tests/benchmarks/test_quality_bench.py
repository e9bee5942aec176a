"""The sets that the judge is tried on: what is laid over the parameters, and what becomes of a comparison."""

from typing import Any

import pytest
import yaml

from benchmarks.quality import SETS, Against, Quality, Sets, figures, overlaid, together
from latentops.config import load_params, parse
from latentops.data import catalogue
from latentops.errors import LatentOpsError


def row(name: str, role: str, mean: float, size: int | None = 8) -> dict[str, Any]:
    metrics = {"auroc": {"mean": mean, "low": mean - 0.01, "high": mean + 0.01}}
    return {"name": name, "role": role, "latent_dim": size, "metrics": metrics}


def paired(variant: str, against: str, difference: float, metric: str = "auroc") -> dict[str, Any]:
    span = {"low": difference - 0.02, "high": difference + 0.02}
    return {"variant": variant, "against": against, "metric": metric, "difference": difference, **span}


FOUND = {
    "chosen": {"variant": "sparse", "seed": 0},
    "comparisons": [
        paired("sparse", "PCA-8", 0.3, "probe_accuracy"),
        paired("denoising", "PCA-8", 0.19),
        paired("sparse", "untrained sparse", 0.2),
        paired("sparse", "PCA-8", 0.1),
    ],
    "rows": [
        row("denoising", "variant", 0.99),
        row("sparse", "variant", 0.9),
        row("untrained sparse", "rival", 0.7),
        row("untrained denoising", "rival", 0.95),
        row("PCA-8", "rival", 0.8),
        row("random ReLU features-20", "rival", 0.96, 20),
        row("kNN", "reference", 0.92, None),
    ],
}


def quality(**measure: Any) -> Quality:
    return Quality(dataset="set_a", measures=[{"name": "a", "metric": "auroc", **measure}])


def test_what_is_laid_over_replaces_only_what_it_names() -> None:
    below = {"a": {"b": 1, "c": [1, 2]}, "d": 3}
    assert overlaid(below, {"a": {"c": [4]}, "e": {"f": 5}}) == {
        "a": {"b": 1, "c": [4]},
        "d": 3,
        "e": {"f": 5},
    }
    assert overlaid(below, {}) == below


def test_the_figure_is_that_of_the_chosen_variant_beside_the_best_code_of_its_size() -> None:
    (found,) = figures(quality(target=0.9, aim=0.95), FOUND, "abc")
    assert (found.variant, found.value, found.low, found.met) == ("sparse", 0.9, 0.89, True)
    assert found.rival is not None
    assert found.reference is not None
    assert (found.rival.name, found.reference.name) == ("PCA-8", "kNN")
    assert found.lead is not None
    assert (found.lead.value, found.lead.low) == (0.1, pytest.approx(0.08))
    assert set(found.floors) == {"untrained sparse", "PCA-8", "kNN"}


def test_a_target_that_is_not_reached_is_not_met() -> None:
    (found,) = figures(quality(target=0.91), FOUND, "abc")
    assert found.met is False
    (found,) = figures(quality(), FOUND, "abc")
    assert found.met is None


def test_a_metric_that_the_board_lacks_is_named_with_what_it_has() -> None:
    with pytest.raises(LatentOpsError, match="set_a: sparse has no probe; it has auroc"):
        figures(quality(metric="probe"), FOUND, "abc")
    with pytest.raises(LatentOpsError, match="no variant was chosen"):
        figures(quality(), {**FOUND, "chosen": None}, "abc")


def test_sets_are_held_against_a_floor_together() -> None:
    against = Against(name="t", sets="set_", metric="auroc", floor="kNN", target=-0.005)
    rows = [
        {"dataset": f"set_{at}", "metric": "auroc", "value": 0.9 + gain, "floors": {"kNN": 0.9}}
        for at, gain in enumerate((0.0, 0.01, 0.02))
    ]
    other = {"dataset": "digits", "metric": "auroc", "value": 0.1, "floors": {"kNN": 0.9}}
    sets = ["set_0", "set_1", "set_2", "digits"]
    found = together(against, sets, [*rows, other], "abc")
    assert found is not None
    assert found["value"] == pytest.approx(0.01)
    assert (found["sets"], found["met"]) == (3, True)
    # Student's t of three values: 4.303 deviations of the mean.
    assert found["high"] - found["value"] == pytest.approx(4.303 * 0.01 / 3**0.5, rel=1e-3)
    assert together(against, sets, [*rows[:2], other], "abc") is None, "one isn't measured yet"


def test_every_set_is_one_that_can_be_added() -> None:
    sets = parse(Sets, yaml.safe_load(SETS.read_text(encoding="utf-8")), str(SETS))
    known, ours = catalogue.entries(), load_params().datasets
    for each in sets.sets:
        target = each.add[0] if each.add else each.dataset
        assert each.dataset in ours if not each.add else target in known or "/" in target
        assert set(each.params) <= {"datasets", "variants", "training", "evaluation", "run"}
    names = [measure.name for each in sets.sets for measure in each.measures]
    assert len(names) == len(set(names))
