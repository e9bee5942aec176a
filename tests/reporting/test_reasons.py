"""Why rows are scored as they are: stacks at their initial weights, and one row that stands out."""

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from latentops.config import Anomaly
from latentops.data import prepared
from latentops.data.encoding import Encoding
from latentops.data.prepared import Description, Samples
from latentops.data.tokenizer import Tokenizer
from latentops.data.transforms import Transform
from latentops.evaluation.anomaly import Scorer
from latentops.evaluation.attribution import Attribution
from latentops.reporting import reasons
from latentops.reporting.pictures import Gallery
from latentops.reporting.reasons import IMAGES, SHOWN, Reasons
from latentops.reporting.results import comparison
from latentops.training.members import stack_members
from latentops.training.trained import Recipe, Trained
from tests.toy import SECTIONS, SMALL

SHAPES = {"digits": (1, 6, 5), "breast_cancer": (6,), "digit_columns": (5, 3)}
ODD, WHERE = 7, {"digits": (0, 2, 3), "breast_cancer": (4,), "digit_columns": (1, 2)}
"""A test row of each dataset that is normal but for one value, and which this is."""

SETTINGS = Anomaly(neighbours=3, reference=100, alpha=0.05)


def build(root: Path, dataset: str) -> None:
    """Prepared rows, the chosen variant's stack and its scores of the test rows."""
    found = comparison(dataset, root)
    assert found.chosen is not None
    kind, shape, random = found.kind, SHAPES[dataset], np.random.default_rng(0)
    features = tuple(f"<{k}>" for k in range(shape[0])) if kind == "tabular" else ()
    transform = Transform((10.0,), (2.0,))
    description = Description(kind, shape, features, ("a", "b", "c"), transform, spread=1.0)  # type: ignore[arg-type]
    splits = {}
    for split in ("train", "test"):
        values = random.normal(size=(60, *shape)).astype(np.float32)
        lengths = random.integers(2, shape[0] + 1, 60) if kind == "sequence" else None
        if split == "test":
            values[ODD, *WHERE[dataset]] += 30
        if lengths is not None:
            lengths[ODD] = 4
            values[np.arange(shape[0]) >= lengths[:, None]] = 0
        splits[split] = Samples(values, lengths, np.arange(60) % 3, np.zeros((60, 32), np.uint8))
    prepared.write(root / "data/prepared" / dataset, description, splits)  # type: ignore[arg-type]
    variant, views = found.chosen.variant, ("a", "b")
    members = stack_members(range(5), views)
    recipe = Recipe.resolve(variant, SECTIONS[variant], "mlp", SMALL, 2, description)
    stack = Trained(recipe.build(members), members, recipe)
    stack.save(root / "models" / dataset / variant)
    tensors = {}
    for label, view in enumerate(views):
        own = stack.select(view=view)
        fold = splits["train"].select(splits["train"].labels == label)
        made = [zip(own.residuals(rows), own.encode(rows), strict=True) for rows in (fold, splits["test"])]
        each = [
            Scorer.fit(*known, fold.values, SETTINGS.neighbours, SETTINGS.reference).score(*asked)["auroc"]
            for known, asked in zip(*made, strict=True)
        ]
        tensors[f"{variant}/score/{view}/auroc"] = np.stack(each).astype(np.float32)
        tensors[f"untrained {variant}/score/{view}/auroc"] = np.zeros((5, 60), np.float32)
    folder = root / "results/evaluate" / dataset / variant
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "samples.safetensors")


def drawn(root: Path, dataset: str) -> Gallery:
    return reasons.gallery(comparison(dataset, root), SETTINGS, root)


def heights(label: str) -> list[float]:
    return [float(each) for each in re.findall(r"score (-?[\d.]+)", label)]


@pytest.mark.parametrize("dataset", SHAPES)
def test_the_highest_scores_come_first_and_a_normal_row_last(project: Path, dataset: str) -> None:
    build(project, dataset)
    (picture,) = drawn(project, dataset).others
    if dataset == "digits":
        names = picture.strips[0].alt.removeprefix("Test images: ").split(", ")
        names = [f"{a}, {b}" for a, b in zip(names[::2], names[1::2], strict=True)]
        assert len(names) == IMAGES + 1
    else:
        names = [name for name, _ in picture.drawings]
        assert len(names) == SHOWN + 1
    assert names[0].startswith(("a", "b", "c")[ODD % 3])
    scores = [heights(name)[0] for name in names]
    assert scores[:-1] == sorted(scores[:-1], reverse=True)
    assert scores[-1] < scores[-2]
    assert names[-1][0] in "ab"


def test_of_a_table_the_columns_that_add_most_are_shown_with_their_values(project: Path) -> None:
    build(project, "breast_cancer")
    (picture,) = drawn(project, "breast_cancer").others
    svg = str(picture.drawings[0][1])
    test = prepared.load(project / "data/prepared/breast_cancer", "test")
    value = float(test.values[ODD, 4]) * 2 + 10
    bars = re.findall(r'class="name"[^>]*>([^<]*)</text><text class="tick"[^>]*>([^<]*) \(nearest', svg)
    assert bars[0] == ("&lt;4&gt;", f"{value:.4g}")
    widths = [float(width) for width in re.findall(r'width="([\d.]+)"', svg)]
    assert widths == sorted(widths, reverse=True)


def test_of_an_image_no_pixel_is_redder_than_the_one_that_adds_most(project: Path) -> None:
    build(project, "digits")
    (picture,) = drawn(project, "digits").others
    pixels = Image.open(io.BytesIO(base64.b64decode(picture.strips[2].source.partition(",")[2])))
    first = np.asarray(pixels.convert("RGB"), dtype=int)[:, :5]
    red = first[..., 0] - first[..., 2]
    assert red[WHERE["digits"][1:]] == red.max() > np.median(red)


def test_of_a_sequence_the_step_that_adds_most_is_told(project: Path) -> None:
    build(project, "digit_columns")
    (picture,) = drawn(project, "digit_columns").others
    svg = str(picture.drawings[0][1])
    assert "step 2 of 4 adds most" in svg
    assert "step 5" not in svg  # padding


def test_what_is_missing_is_said_once_or_by_another(project: Path) -> None:
    assert drawn(project, "digits") == Gallery()
    build(project, "digits")
    found = comparison("digits", project)
    assert reasons.gallery(found.model_copy(update={"chosen": None}), SETTINGS, project) == Gallery()
    assert found.chosen is not None
    scores = project / "results/evaluate/digits" / found.chosen.variant / "samples.safetensors"
    scores.unlink()
    (note,) = drawn(project, "digits").notes
    assert str(scores) in note


def of(rows: Samples, adds: np.ndarray | None, residual: np.ndarray) -> Reasons:
    zeros = np.zeros(len(rows))
    return Reasons(rows, ("a, score 3.0", "b, score 0.1"), Attribution(zeros, zeros, residual, adds, rows))


def test_a_mixed_table_has_words_and_what_is_missing() -> None:
    encoding = Encoding(
        {"age": "numeric", "job": "categorical"},
        {"job": ("<cook>", "smith")},
        0,
        ("age", "job"),
        Transform((40.0,), (10.0,)),
    )
    description = Description(
        "tabular",
        (4,),
        ("age", "job"),
        ("a", "b"),
        Transform.identity(),
        1.0,
        columns=(1, 2),
        optional=(0,),
        encoding=encoding,
    )
    values = np.array([[0.5, 1, 0, 1], [0, 0, 0, 0]], np.float32)
    rows = Samples(values, None, np.zeros(2, np.int64), np.zeros((2, 32), np.uint8))
    adds = np.array([[1.0, 2.0], [0.5, 0.2]])
    first, last = (str(each) for _, each in reasons.picture(of(rows, adds, adds), description, "x").drawings)
    assert first.index("job") < first.index("age")
    assert "&lt;cook&gt; (nearest" in first
    assert "45 (nearest" in first
    assert last.count("missing (nearest") == 2


def test_a_text_is_shaded_by_the_nats_of_its_tokens() -> None:
    tokenizer = Tokenizer.train(["the team won a <b> goal", "the bank sold"] * 5, 60, 12)
    ids, lengths = tokenizer.apply(["the team sold", "the bank"])
    rows = Samples(
        prepared.pad(ids, lengths, 12), lengths, np.zeros(2, np.int64), np.zeros((2, 32), np.uint8)
    )
    nats = np.zeros((2, 12, 1))
    nats[0, int(lengths[0]) - 1] = 2.0
    nats[1, 0] = 1.0
    description = Description(
        "sequence",
        (12, 1),
        (),
        ("a", "b"),
        Transform.identity(),
        1.0,
        vocabulary=tokenizer.vocabulary,
        tokenizer=tokenizer,
    )
    picture = reasons.picture(of(rows, None, nats), description, "x")
    first = str(picture.drawings[0][1])
    assert ": the team sold" in first
    shades = [float(each) for each in re.findall(r"/ ([\d.]+)\)", first)]
    assert len(shades) == lengths[0]
    assert shades.index(max(shades)) == lengths[0] - 1
    assert sum(shade > 0 for shade in shades) == 1
