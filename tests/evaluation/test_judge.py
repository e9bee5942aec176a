"""The protocol itself: what it asks of a model, and that it doesn't matter where that lies."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, log_loss, r2_score

from latentops.config import Evaluation
from latentops.data.prepared import SPLITS, UNLABELLED, Samples, SplitName
from latentops.evaluation.comparison import Row
from latentops.evaluation.judge import Coder, Field, Made, judge
from latentops.evaluation.statistics import Resampling

SETTINGS = Evaluation.model_validate(
    {
        "probe": {"strengths": [0.1, 1.0]},
        "knn": {"neighbours": 3, "reference": 1000},
        "few_labels": {"labels": [2, 5], "draws": 3, "seed": 0},
        "clustering": {"starts": 2},
        "anomaly": {"neighbours": 3, "reference": 1000, "alpha": 0.1},
        "denoising": {
            "gaussian": [0.5],
            "masking": [0.5],
            "salt_and_pepper": [0.5],
            "replace": [0.5],
            "drop": [0.5],
        },
    }
)
SEEDS = [0, 1]


@pytest.fixture
def field() -> Field:
    rows = {
        split: Samples(
            np.random.default_rng(seed).normal(size=(60, 4)).astype(np.float32),
            None,
            np.arange(60) % 3,
            np.zeros((60, 32), dtype=np.uint8),
        )
        for seed, split in enumerate(SPLITS)
    }
    return Field(rows, ("a", "b", "c"), ("a", "c"), SETTINGS)


def coder(field: Field, residuals: bool) -> Coder:
    def codes(view: str, split: SplitName) -> np.ndarray:
        given = field.given(view, split)
        values = given.values[:, :2] + given.labels[:, None]
        return np.stack([values * (seed + len(view)) for seed in SEEDS])

    def squared(view: str, split: SplitName) -> np.ndarray:
        return np.stack([(field.given(view, split).values + seed) ** 2 for seed in SEEDS])

    return Coder(codes, squared if residuals else None)


@pytest.mark.parametrize("residuals", [False, True])
def test_nothing_is_asked_for_twice(field: Field, residuals: bool) -> None:
    asked: Counter[tuple[str, str, str]] = Counter()

    def counted(kind: str, made: Made) -> Made:
        def ask(view: str, split: SplitName) -> np.ndarray:
            asked[kind, view, split] += 1
            return made(view, split)

        return ask

    plain = coder(field, residuals)
    watched = Coder(counted("codes", plain.codes), plain.residuals and counted("residuals", plain.residuals))
    judge(field, "x", "variant", 2, SEEDS, watched)
    assert set(asked.values()) == {1}
    assert ("codes", "c", "calibration") in asked
    assert ("residuals", "all", "train") not in asked


def test_a_view_is_fitted_and_its_threshold_set_on_normal_rows_alone(field: Field) -> None:
    for view in field.normal:
        for split in SPLITS:
            rows = field.given(view, split)
            alone = split in ("train", "calibration")
            assert set(rows.labels) == ({field.classes.index(view)} if alone else {0, 1, 2})
    assert all(len(field.given("all", split)) == 60 for split in SPLITS)


@pytest.mark.parametrize("residuals", [False, True])
def test_what_is_mapped_from_files_is_judged_like_what_is_in_memory(
    field: Field, residuals: bool, tmp_path: Path
) -> None:
    def mapped(made: Made) -> Made:
        def ask(view: str, split: SplitName) -> np.ndarray:
            path = tmp_path / "array.npy"
            np.save(path, made(view, split))
            array: np.ndarray = np.load(path, mmap_mode="r")
            path.unlink()
            return array

        return ask

    plain = coder(field, residuals)
    files = Coder(mapped(plain.codes), plain.residuals and mapped(plain.residuals))
    one, other = (judge(field, "x", "variant", 2, SEEDS, each) for each in (plain, files))
    assert one.to_json() == other.to_json()
    assert one.tensors().keys() == other.tensors().keys()
    assert all(np.array_equal(one.tensors()[k], other.tensors()[k], equal_nan=True) for k in one.tensors())


def test_what_is_said_of_the_probe_is_what_scikit_learn_says_of_its_predictions(field: Field) -> None:
    made = coder(field, residuals=False)
    verdict = judge(field, "x", "variant", 2, SEEDS, made)
    truth = field.labels("test")
    logits = verdict.probe.logits(torch.from_numpy(made.codes("all", "test"))).double()
    for seed, chances in enumerate(logits.softmax(1).numpy()):
        predicted = chances.argmax(axis=0)
        assert verdict.samples["probe_predicted"][seed].tolist() == predicted.tolist()
        expected = {
            "probe_accuracy": accuracy_score(truth, predicted),
            "probe_balanced_accuracy": balanced_accuracy_score(truth, predicted),
            "probe_macro_f1": f1_score(truth, predicted, average="macro"),
            "probe_log_loss": log_loss(truth, chances.T),
        }
        assert {name: verdict.metrics[name][seed] for name in expected} == pytest.approx(expected, rel=1e-6)


def test_neighbours_are_sought_on_standardised_codes(field: Field) -> None:
    made = coder(field, residuals=False)
    longer = Coder(lambda view, split: made.codes(view, split) * np.array([1000, 0.01]))
    plain, stretched = (judge(field, "x", "variant", 2, SEEDS, each) for each in (made, longer))
    assert plain.metrics["knn_accuracy"] == stretched.metrics["knn_accuracy"]
    assert plain.samples["knn_correct"].mean(axis=1).tolist() == plain.metrics["knn_accuracy"]
    assert min(plain.metrics["knn_accuracy"]) > 0.4


def test_with_few_labels_every_draw_has_its_say_and_too_few_rows_are_passed_over(field: Field) -> None:
    settings = SETTINGS.few_labels.model_copy(update={"labels": [5, 21]})  # a class has 20 training rows
    few = replace(field, settings=SETTINGS.model_copy(update={"few_labels": settings}))
    verdict = judge(few, "x", "variant", 2, SEEDS, coder(field, residuals=False))
    correct = verdict.samples["few_labels_correct/5"]
    assert correct.shape == (2, 3, 60)
    assert verdict.metrics["accuracy_with_5_labels"] == correct.mean(axis=(1, 2)).tolist()
    assert not any("21" in name for name in (*verdict.metrics, *verdict.samples))


def test_every_metric_of_a_code_has_an_interval_and_the_other_way_round(field: Field) -> None:
    """Those on stop rows are for choosing, and have none."""
    verdict = judge(field, "x", "variant", 2, SEEDS, coder(field, residuals=True))
    row = Row.read(verdict.to_json(), verdict.tensors())
    (resampling,) = Resampling.draw(field.labels("test"), 50, seed=0)
    replicates = row.resampled(resampling, field.labels("test"), field.classes)
    assert set(replicates) == {name for name in verdict.metrics if not name.startswith("stop_")}
    for name, found in replicates.items():
        assert found.shape == (50, 2)
        mean = found.mean(axis=1)
        assert abs(mean.mean() - np.mean(verdict.metrics[name])) < 4 * mean.std() + 1e-6, name


def test_a_class_that_only_test_rows_are_of_is_read_wrongly_and_breaks_nothing(field: Field) -> None:
    test = field.samples["test"]
    samples = {**field.samples, "test": replace(test, labels=np.where(test.labels == 2, 3, test.labels))}
    few = replace(field, samples=samples, classes=("a", "b", "c", "d"))
    verdict = judge(few, "x", "variant", 2, SEEDS, coder(field, residuals=False))
    assert (verdict.samples["probe_predicted"] != 3).all()
    assert np.isfinite(verdict.metrics["probe_log_loss"]).all()


@pytest.mark.parametrize("split", ["stop", "test"])
@pytest.mark.parametrize("left", ["normal rows", "anomalies"])
def test_a_split_without_anomalies_or_without_anything_else_has_no_auroc(
    field: Field, split: SplitName, left: str
) -> None:
    rows = field.samples[split]
    labels = np.full(len(rows), 0 if left == "normal rows" else 1)
    few = replace(field, samples={**field.samples, split: replace(rows, labels=labels)}, normal=("a",))
    verdict = judge(few, "x", "variant", 2, SEEDS, coder(field, residuals=True))
    missing = {"stop": "stop_auroc", "test": "auroc"}[split]
    assert missing not in verdict.metrics
    assert {"stop_auroc", "auroc"} - {missing} <= set(verdict.metrics)
    assert np.isfinite([value for values in verdict.metrics.values() for value in values]).all()
    assert ("score/a/auroc" in verdict.samples) == (split == "stop")


def test_a_perfect_a_constant_and_a_duplicated_code_are_scored_as_such(field: Field) -> None:
    """Normals of either view lie in one place, all else far away; or everything in one place."""

    def perfect(view: str, split: SplitName) -> np.ndarray:
        given = field.given(view, split)
        far = 9.0 * (given.labels[:, None] != "abc".find(view[0]))
        return np.stack([0.01 * given.values[:, :2] + far] * 2)

    found = judge(field, "x", "rival", 2, SEEDS, Coder(perfect)).metrics
    for name in ("auroc", "auroc_latent", "auroc_mahalanobis", "average_precision"):
        assert found[name] == [1.0, 1.0]
    assert found["false_alarm_at_95"] == [0.0, 0.0]

    def duplicated(view: str, split: SplitName) -> np.ndarray:
        return np.tile(coder(field, residuals=False).codes(view, split), 2)

    alone, twice = (
        judge(field, "x", "rival", 2, SEEDS, Coder(made)).metrics
        for made in (coder(field, residuals=False).codes, duplicated)
    )
    for name in ("auroc", "auroc_latent", "auroc_mahalanobis", "average_precision", "false_alarm_at_95"):
        assert twice[name] == pytest.approx(alone[name], abs=1e-6)

    def constant(view: str, split: SplitName) -> np.ndarray:
        return np.ones((2, len(field.given(view, split)), 2))

    nothing = judge(field, "x", "rival", 2, SEEDS, Coder(constant)).metrics
    for name in ("auroc", "auroc_latent", "auroc_mahalanobis"):
        assert nothing[name] == [0.5, 0.5]
    assert nothing["average_precision"] == pytest.approx([2 / 3, 2 / 3])
    assert nothing["false_alarm_at_95"] == [1.0, 1.0]


def test_scores_of_its_own_are_judged_under_their_name(field: Field) -> None:
    def known(view: str, split: SplitName) -> np.ndarray:
        return np.stack([1.0 * (field.given(view, split).labels != field.classes.index(view))] * 2)

    plain = coder(field, residuals=True)
    found = judge(field, "x", "variant", 2, SEEDS, replace(plain, own={"auroc_prior": known}))
    assert found.metrics["auroc_prior"] == [1.0, 1.0]
    assert found.metrics["stop_auroc_prior"] == [1.0, 1.0]
    other = judge(field, "x", "variant", 2, SEEDS, plain)
    assert found.metrics["auroc"] == other.metrics["auroc"]
    assert "auroc_prior" not in other.metrics


@pytest.mark.parametrize("residuals", [False, True])
def test_the_thresholds_that_are_kept_are_those_that_flag(field: Field, residuals: bool) -> None:
    samples = judge(field, "x", "variant", 2, SEEDS, coder(field, residuals)).samples
    for view in field.normal:
        scores, normals = samples[f"score/{view}/auroc"], field.is_normal("test", view)
        flagged = scores > samples[f"limit/{view}"][:, None]
        assert np.array_equal(flagged[:, normals], samples[f"false_alarm/{view}"][:, normals] == 1)


def numbered(field: Field, told: float = 1.0) -> Field:
    """The same rows of one class, with a number that the first value tells, but for some noise."""
    rows = {}
    for seed, (split, each) in enumerate(field.samples.items()):
        noise = np.random.default_rng(10 + seed).normal(size=len(each))
        targets = 10_000 + 2_000 * (told * each.values[:, 0] + 0.3 * noise)
        rows[split] = replace(each, labels=np.zeros(len(each), np.int64), targets=targets)
    return Field(rows, (UNLABELLED,), (), SETTINGS)


def test_a_number_is_read_by_ridge_and_by_neighbours_in_its_own_units(field: Field) -> None:
    asked = numbered(field)
    verdict = judge(asked, "x", "variant", 4, SEEDS, whole(asked))
    assert set(verdict.metrics) == {"r2", "stop_r2", "mae", "knn_r2"}
    targets = asked.targets("test")
    means = {name: each.mean(axis=1) for name, each in verdict.samples.items()}
    assert {each.shape for each in verdict.samples.values()} == {(len(SEEDS), len(targets))}
    assert verdict.metrics["mae"] == pytest.approx(means["absolute_error"].tolist(), rel=1e-5)
    assert verdict.metrics["r2"] == pytest.approx((1 - means["unexplained"]).tolist(), rel=1e-5)
    assert verdict.metrics["knn_r2"] == pytest.approx((1 - means["knn_unexplained"]).tolist(), rel=1e-5)
    assert min(verdict.metrics["r2"]) > 0.8
    assert 0 < verdict.metrics["mae"][0] < 1_000
    missed = np.sqrt(verdict.samples["unexplained"][0] * targets.var())
    assert missed == pytest.approx(verdict.samples["absolute_error"][0], abs=1)
    assert verdict.metrics["knn_r2"][0] > 0.3


def whole(field: Field) -> Coder:
    return Coder(lambda _, split: np.stack([field.samples[split].values] * len(SEEDS)))


def test_a_code_that_tells_nothing_is_worth_nothing(field: Field) -> None:
    asked = numbered(field)
    nothing = Coder(lambda _, split: np.zeros((1, len(asked.samples[split]), 2)))
    verdict = judge(asked, "x", "variant", 2, [0], nothing)
    assert abs(verdict.metrics["r2"][0]) < 0.1
    assert abs(verdict.metrics["knn_r2"][0]) < 1


def test_resamples_of_a_number_are_of_what_is_measured(field: Field) -> None:
    asked = numbered(field)
    verdict = judge(asked, "x", "variant", 4, SEEDS, whole(asked))
    row = Row("x", "variant", 4, SEEDS, verdict.metrics, verdict.samples)
    (drawn,) = Resampling.draw(asked.labels("test"), 400, seed=0)
    targets = asked.targets("test")
    found = row.resampled(drawn, asked.labels("test"), asked.classes, targets)
    assert set(found) == {"r2", "mae", "knn_r2"}
    missed = verdict.samples["unexplained"] * targets.var()
    for resample in range(3):
        often = drawn.items[:, resample].astype(int)
        theirs = [
            r2_score(np.repeat(targets, often), np.repeat(targets + each, often)) for each in missed**0.5
        ]
        assert found["r2"][resample] == pytest.approx(theirs, abs=1e-4)
    for metric, each in found.items():
        assert each.mean(axis=0) == pytest.approx(verdict.metrics[metric], rel=0.1)


@pytest.mark.parametrize(("split", "gone"), [("stop", {"stop_r2"}), ("test", {"r2", "knn_r2"})])
def test_of_targets_that_are_all_the_same_there_is_no_r_squared(
    field: Field, split: SplitName, gone: set[str]
) -> None:
    asked = numbered(field)
    same = {split: replace(asked.samples[split], targets=np.full(60, 5.0))}
    alone = replace(asked, samples=asked.samples | same)
    verdict = judge(alone, "x", "variant", 4, SEEDS, whole(alone))
    assert {"r2", "stop_r2", "mae", "knn_r2"} - set(verdict.metrics) == gone
