import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from latentops.evaluation.statistics import auroc
from latentops.reporting import anomalies
from latentops.reporting.anomalies import GRID, Scored, curve, histogram, roc
from latentops.reporting.results import comparison

Edit = Callable[[str, Callable[[dict[str, Any]], None]], None]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(-5, 5), st.booleans()), min_size=2, max_size=60))
def test_the_area_below_the_curve_is_the_auroc(rows: list[tuple[int, bool]]) -> None:
    scores, anomalous = np.array([s for s, _ in rows], dtype=float), np.array([a for _, a in rows])
    if anomalous.all() or not anomalous.any():
        return
    area = np.trapezoid(roc(scores, anomalous), GRID)
    assert area == pytest.approx(auroc(scores.astype(np.float32), anomalous), abs=GRID[1])


def test_a_perfect_score_finds_all_before_any_alarm_and_a_constant_one_guesses() -> None:
    anomalous = np.arange(40) % 4 == 0
    assert (roc(anomalous.astype(float), anomalous) == 1).all()
    assert roc(np.zeros(40), anomalous) == pytest.approx(GRID)
    assert roc(-anomalous.astype(float), anomalous)[:-1] == pytest.approx(0)


def test_a_curve_is_the_mean_over_views_and_shows_each_of_them() -> None:
    anomalous = np.arange(40) % 2 == 0
    perfect, constant = anomalous[None].astype(float), np.zeros((1, 40))
    found = curve(Scored("x", {"a": perfect, "b": constant}, {}), {"a": ~anomalous, "b": ~anomalous})
    assert found.area == pytest.approx(0.75)
    assert found.by == "normal class"
    assert found.parts["a"] == pytest.approx(1)
    one = curve(Scored("x", {"a": np.concatenate([perfect, constant])}, {}), {"a": ~anomalous})
    assert (one.by, len(one.parts)) == ("seed", 2)


def test_every_row_is_counted_once_and_the_threshold_says_what_it_flags() -> None:
    random = np.random.default_rng(0)
    normal = np.arange(500) < 300
    scores = random.normal(size=500) + 2 * ~normal
    scores[0], scores[-1] = -50, 60  # beyond both ends
    drawing = histogram(scores, normal, 1.5, "benign", 300)
    counted = {
        name: sum(int(count) for count in re.findall(rf": (\d+) of {total} {name}<", drawing))
        for name, total in (("normal", 300), ("anomalous", 200))
    }
    assert counted == {"normal": 300, "anomalous": 200}
    flagged = (scores > 1.5)[normal].mean(), (scores > 1.5)[~normal].mean()
    assert f"flags {flagged[0]:.1%} of normal rows and {flagged[1]:.1%} of anomalies" in drawing


def test_floors_are_drawn_beside_the_chosen_variant(finished: Path) -> None:
    pictures = anomalies.gallery(comparison("digits", finished), finished)
    rates, scores = pictures.others
    assert not pictures.notes
    label = re.findall(r'aria-label="([^"]+)"', rates.drawings[0][1])[0]
    assert re.match(r"Detection .* of denoising \(area .*\), kNN \(area .*\), PCA-8 \(area", label)
    assert [name for name, _ in scores.drawings] == ["0", "1"]
    assert all("threshold 1.500" in drawing for _, drawing in scores.drawings)
    assert "at the threshold: " in rates.drawings[0][1]


def test_results_without_thresholds_are_drawn_without(project: Path) -> None:
    path = project / "results/evaluate/digits/denoising/samples.safetensors"
    save_file({key: value for key, value in load_file(path).items() if "/limit/" not in key}, path)
    rates, scores = anomalies.gallery(comparison("digits", project), project).others
    assert all("threshold" not in drawing for _, drawing in rates.drawings + scores.drawings)
    assert "dashed line" not in scores.caption


def test_scores_that_are_not_here_are_a_note(project: Path) -> None:
    (project / "results/evaluate/digits/denoising/samples.safetensors").unlink()
    pictures = anomalies.gallery(comparison("digits", project), project)
    assert not pictures.others
    assert "dvc pull" in pictures.notes[0]


def test_without_a_normal_class_or_a_choice_there_is_nothing_to_draw(edit: Edit, project: Path) -> None:
    assert anomalies.gallery(comparison("digit_columns", project), project) == anomalies.Gallery()
    edit("digits", lambda value: value.update(chosen=None))
    assert anomalies.gallery(comparison("digits", project), project) == anomalies.Gallery()
