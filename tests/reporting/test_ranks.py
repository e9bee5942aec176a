"""What is said and drawn of which variants are told apart."""

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from latentops.errors import DataError
from latentops.reporting import ranks, results
from latentops.reporting.ranks import diagram, matrix, over_datasets
from latentops.reporting.results import Chosen, Comparison, Estimate, Pair, Row

NAMES = ("sparse", "denoising", "contractive", "variational", "sequence")


def compared(dataset: str, means: Sequence[float], primary: str = "auroc") -> Comparison:
    rows = [
        Row(
            dataset=dataset,
            kind="tabular",
            name=name,
            role="variant",
            latent_dim=8,
            members=5,
            metrics={"auroc": Estimate(mean=mean), "probe_accuracy": Estimate(mean=0.5)},
        )
        for name, mean in zip(NAMES, means, strict=True)
    ]
    return Comparison(dataset=dataset, kind="tabular", primary=primary, rows=tuple(rows), passed=False)


def chance(count: int, seed: int = 0) -> list[Comparison]:
    values = np.random.default_rng(seed).random((count, len(NAMES))).round(3)
    return [compared(f"set{k}", row) for k, row in enumerate(values.tolist())]


def clear(count: int) -> list[Comparison]:
    """The same order on every dataset, but for the last two, which tie."""
    return [compared(f"set{k}", (0.9, 0.8, 0.7, 0.6, 0.6)) for k in range(count)]


def test_a_clear_winner_over_twelve_datasets_is_named() -> None:
    found = over_datasets(clear(30), 0.95)
    assert found.variants[0] == "sparse"
    assert found.mean_ranks == {
        "sparse": 1.0, "denoising": 2.0, "contractive": 3.0, "sequence": 4.5, "variational": 4.5
    }  # fmt: skip
    assert found.groups[0] == ("sparse",) or "sparse is better" not in found.text
    values = np.random.default_rng(0).random((12, 5))
    values[:, 2] += 1
    won = over_datasets([compared(f"set{k}", row) for k, row in enumerate(values.tolist())], 0.95)
    assert won.variants[0] == "contractive"
    assert won.friedman is not None
    assert won.friedman.p_value < 0.01


def test_who_wins_by_more_than_the_critical_difference_is_called_better() -> None:
    found = over_datasets(clear(60), 0.95)
    assert found.groups == (("sparse",), ("denoising",), ("contractive",), ("sequence", "variational"))
    assert "sparse is better than every other variant" in found.text


def test_variants_that_are_the_same_everywhere_show_no_difference() -> None:
    found = over_datasets([compared(f"set{k}", (k / 20,) * 5) for k in range(12)], 0.95)
    assert set(found.mean_ranks.values()) == {3.0}
    assert found.groups == (tuple(sorted(NAMES)),)
    assert found.text.endswith("No difference shown between the variants.")


def test_chance_names_no_winner() -> None:
    found = over_datasets(chance(12), 0.95)
    assert "better" not in found.text
    assert len(found.groups) == 1


def test_the_order_of_the_datasets_changes_nothing_but_their_order() -> None:
    many = chance(12)
    one, other = over_datasets(many, 0.95), over_datasets(many[::-1], 0.95)
    assert other.datasets == one.datasets[::-1]
    assert (other.variants, other.groups, other.text) == (one.variants, one.groups, one.text)
    assert other.mean_ranks == pytest.approx(one.mean_ranks)


@pytest.mark.parametrize("count", [1, 3, 9])
def test_few_datasets_say_what_they_cannot_show(count: int) -> None:
    found = over_datasets(clear(count), 0.95)
    noun = "dataset" if count == 1 else "datasets"
    assert found.text.startswith(f"{count} {noun} can't show a difference under CD = ")
    assert diagram(found) is None


def test_each_dataset_is_ranked_by_its_own_metric_and_one_without_is_left_out() -> None:
    many = [compared("a", (1, 2, 3, 4, 5)), compared("b", (1, 2, 3, 4, 5), "probe_accuracy")]
    found = over_datasets([*many, compared("c", (1, 2, 3, 4, 5), "none")], 0.95)
    assert found.metrics == {"a": "auroc", "b": "probe_accuracy"}
    assert found.ranks["a"]["sequence"] == 1
    assert set(found.ranks["b"].values()) == {3.0}


def test_nothing_to_rank_is_said() -> None:
    for nothing in ([], [compared("a", (1, 2, 3, 4, 5), "none")]):
        found = over_datasets(nothing, 0.95)
        assert (found.variants, found.critical_difference, found.friedman) == ((), None, None)
        assert "no two variants" in found.text
        assert diagram(found) is None


def test_two_variants_have_a_critical_difference_and_no_friedman() -> None:
    many = [one.model_copy(update={"rows": one.rows[:2]}) for one in clear(12)]
    found = over_datasets(many, 0.95)
    assert found.friedman is None
    assert found.groups == (("sparse",), ("denoising",))


def test_the_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="dvc repro report"):
        ranks.load(tmp_path)
    written = ranks.write(chance(3), 0.95, tmp_path)
    assert ranks.load(tmp_path) == written
    before = (tmp_path / ranks.PATH).read_bytes()
    ranks.write(chance(3), 0.95, tmp_path)
    assert (tmp_path / ranks.PATH).read_bytes() == before


def test_the_diagram_has_every_variant_at_its_rank_and_a_bar_a_group() -> None:
    found = over_datasets(clear(60), 0.95)
    drawn = ElementTree.fromstring(str(diagram(found)))
    assert drawn.attrib["aria-label"].endswith(found.text)
    dots = drawn.findall("circle")
    assert [float(dot.attrib["cx"]) for dot in dots] == sorted(float(dot.attrib["cx"]) for dot in dots)
    assert [dot.findtext("title", "").split(":")[0] for dot in dots] == list(found.variants)
    bars = [bar.findtext("title") for bar in drawn.findall("rect")]
    assert bars == ["not told apart: sequence, variational"]
    width = float(drawn.attrib["viewBox"].split()[2])
    assert all(0 <= float(text.attrib["x"]) <= width for text in drawn.findall("text"))


def paired(low: float, high: float, verdict: str) -> Comparison:
    pair = Pair.model_validate(
        {
            "variant": "denoising",
            "against": "sparse",
            "metric": "auroc",
            "difference": (low + high) / 2,
            "low": low,
            "high": high,
            "p_value": 0.01,
            "p_holm": 0.02,
            "verdict": verdict,
        }
    )
    base = compared("a", (0.9, 0.8, 0.7, 0.6, 0.5))
    return base.model_copy(
        update={
            "among_variants": (pair,),
            "chosen": Chosen(variant="sparse", seed=0),
            "not_told_apart": ("denoising",) if verdict == "no difference shown" else (),
        }
    )


def test_a_pair_is_told_from_both_sides() -> None:
    picture = matrix(paired(-0.05, -0.03, "worse"))
    assert picture is not None
    assert "sparse is told apart from every other variant" in picture.caption
    ((metric, drawing),) = picture.drawings
    assert metric == "AUROC"
    cells = {rect.findtext("title"): rect for rect in ElementTree.fromstring(str(drawing)).findall("rect")}
    assert set(cells) == {
        "denoising less sparse: −0.040 (−0.050 to −0.030, p = 0.020 after Holm): worse",
        "sparse less denoising: +0.040 (+0.030 to +0.050, p = 0.020 after Holm): better",
    }


def test_no_difference_is_called_that() -> None:
    picture = matrix(paired(-0.05, 0.03, "no difference shown"))
    assert picture is not None
    assert "sparse is not told apart from denoising" in picture.caption
    ((_, drawing),) = picture.drawings
    assert str(drawing).count("no difference shown") == 2


def test_without_pairs_there_is_no_matrix(finished: Path) -> None:
    assert matrix(results.comparison("digits", finished)) is None
