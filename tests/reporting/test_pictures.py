"""Pictures of real stacks, at their initial weights."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from latentops.config import Params
from latentops.data import prepared
from latentops.data.prepared import UNLABELLED, Description, Samples
from latentops.data.tokenizer import Tokenizer
from latentops.data.transforms import Transform
from latentops.reporting import latents, page
from latentops.reporting.pictures import Gallery, _units, gallery, one_of_each
from latentops.reporting.results import comparison
from latentops.training.members import Member, stack_members
from latentops.training.trained import Recipe, Trained
from tests.reporting.conftest import HOSTILE, MODELS
from tests.toy import draw, recipe


def drawn(root: Path, dataset: str) -> Gallery:
    return gallery(comparison(dataset, root), root)


def test_images_are_shown_beside_what_each_variant_makes_of_them(trained: Path) -> None:
    pictures = drawn(trained, "digits")
    reconstructions, samples, *_ = pictures.others
    names = [strip.name for strip in reconstructions.strips]
    assert names == ["original", "denoising", "adversarial", "convolutional", "variational", "sparse"]
    assert [strip.name for strip in samples.strips] == ["variational", "adversarial"]
    assert pictures.map is not None
    assert any("contractive" in note and "dvc pull" in note for note in pictures.notes)


def test_latent_spaces_are_walked_through_and_taken_apart(trained: Path) -> None:
    pictures = {picture.heading: picture for picture in drawn(trained, "digits").others}
    assert [strip.name for strip in pictures["Units of variational"].strips] == [
        "unit 1", "unit 2", "unit 3", "unit 4"
    ]  # fmt: skip
    assert len(pictures["Between codes of variational"].strips) == latents.PAIRS
    assert [strip.name for strip in pictures["Dictionary of the sparse code"].strips] == ["sparse"]


def test_sequences_are_walked_through_from_pale_to_strong(trained: Path) -> None:
    pictures = {picture.heading: picture for picture in drawn(trained, "digit_columns").others}
    units = pictures["Units of variational"].drawings
    assert [name for name, _ in units] == ["unit 1", "unit 2", "unit 3", "unit 4"]
    strengths = [float(each) for each in re.findall(r'opacity="([^"]+)"', units[0][1])]
    assert len(strengths) == 10 * 8
    assert strengths == sorted(strengths)
    assert len(pictures["Between codes of variational"].drawings) == latents.PAIRS


def test_each_unit_is_held_against_each_class(trained: Path) -> None:
    """A unit that is the second class's sign is told apart from one that knows nothing."""
    stack = Trained.load(trained / "models/digits/sparse").select(seed=3, view="all")
    samples = prepared.load(trained / "data/prepared/digits", "test")
    codes = np.zeros((1, len(samples), 4), dtype=np.float32)
    codes[0, :, 0] = samples.labels == 1
    stack.encode = lambda samples: codes  # type: ignore[method-assign, assignment]
    table = _units(stack, samples, prepared.describe(trained / "data/prepared/digits"))[0].table
    assert table is not None
    assert table.columns == ("0", HOSTILE, "2")
    (_, told), (_, ignorant), *_ = table.rows
    assert (told[1].text, told[1].percent) == ("1.000", 100)
    assert {(cell.text, cell.percent) for cell in ignorant} == {("0.500", 0)}


@pytest.mark.parametrize("dataset", ["digits", "digit_columns"])
def test_rows_with_a_number_are_named_and_coloured_by_it(dataset: str, trained: Path) -> None:
    folder = trained / "data/prepared" / dataset
    samples = prepared.load(folder, "test")
    description = replace(prepared.describe(folder), classes=(UNLABELLED,), target="price")
    targets = np.arange(len(samples)) * 1_000.0
    one = replace(samples, labels=np.zeros(len(samples), np.int64), targets=targets)
    prepared.write(folder, description, {"test": one})
    pictures = drawn(trained, dataset)
    shown = [pictures.map, *pictures.others]
    told = "".join(f"{each}" for each in shown)
    assert pictures.map is not None
    assert "coloured by price" in pictures.map.drawings[0][1]
    assert UNLABELLED not in told
    assert f"price {targets[-1]:,.0f}" in told
    tables = [each.table for each in pictures.others if each.table is not None]
    assert all(table.columns == ("price",) for table in tables)


def test_the_maps_that_vary_most_are_shown_layer_by_layer(trained: Path) -> None:
    stack = Trained.load(trained / "models/digits/convolutional").select(seed=0, view="all")
    samples = prepared.load(trained / "data/prepared/digits", "test").select(np.arange(6))
    with torch.no_grad():
        first = stack.model.encoder.layers[0]
        first.weight[:, :5] = 0  # five of eight maps show the same everywhere
    maps = latents.feature_maps(stack, samples)
    names = [name for name in maps if name.startswith("layer 1")]
    assert {"layer 1, map 6", "layer 1, map 7", "layer 1, map 8"} <= set(names)
    assert len(names) == latents.MOST_MAPS
    assert len(maps) == 2 * latents.MOST_MAPS
    assert maps["layer 1, map 6"].shape == (6, 1, 4, 4)
    assert (maps["layer 1, map 6"].min(), maps["layer 1, map 6"].max()) == (0, 1)
    pictures = {picture.heading: picture for picture in drawn(trained, "digits").others}
    assert len(pictures["Feature maps of convolutional"].strips) == 2 * latents.MOST_MAPS


def test_a_dictionary_shows_what_units_add_and_nothing_of_dead_ones(trained: Path) -> None:
    stack = Trained.load(trained / "models/digits/sparse").select(seed=0, view="all")
    samples = prepared.load(trained / "data/prepared/digits", "test")
    added = latents.dictionary(stack, samples)
    assert added.shape == (4, 1, 8, 8)
    assert np.abs(added - 0.5).max() == pytest.approx(0.5)
    with torch.no_grad():
        stack.model.encoder.layers[-1].bias[..., 0] = -1000
    assert latents.dictionary(stack, samples)[0] == pytest.approx(0.5, abs=1e-6)


def test_a_sigmoid_unit_is_as_active_as_where_it_is_above_a_half() -> None:
    members, samples = [Member(0, "all")], draw("image", 20)
    made = recipe("sparse", "image", latent=3, penalty="kl")
    stack = Trained(made.build(members), members, made)
    with torch.no_grad():
        last = stack.model.encoder.layers[-1]
        last.weight[..., 0], last.bias[..., 0] = 0, -1  # a quarter: never above a half, and never at zero
        last.weight[..., 1], last.bias[..., 1] = 0, 1
    added = latents.dictionary(stack, samples)
    assert added[0] == pytest.approx(0.5, abs=1e-6)
    assert np.abs(added - 0.5).max() == pytest.approx(0.5)


def test_standardised_images_are_shown_in_raw_units(trained: Path) -> None:
    """The same images, told as standardised instead of scaled, look the same."""
    data = trained / "data/prepared/digits"
    before = drawn(trained, "digits").others[0].strips[0].source
    description, test = prepared.describe(data), prepared.load(data, "test")
    standard = replace(description, transform=Transform((8.0,), (4.0,)), likelihood_range=None)
    values = standard.transform.apply(description.transform.invert(test.values))
    prepared.write(data, standard, {"test": replace(test, values=values)})
    assert drawn(trained, "digits").others[0].strips[0].source == before


def test_sequences_are_drawn_to_their_own_length(trained: Path) -> None:
    reconstructions, samples, *_ = drawn(trained, "digit_columns").others
    assert len(reconstructions.drawings) == len(samples.drawings) == 10
    test = prepared.load(trained / "data/prepared/digit_columns", "test")
    assert test.lengths is not None
    points = [
        len(re.findall("L", re.findall(r' d="([^"]+)"', drawing)[0]))
        for _, drawing in reconstructions.drawings
    ]
    assert all(1 <= count <= 8 for count in points)
    assert len(set(points)) > 1


def test_texts_are_shown_as_texts(trained: Path, params: Params) -> None:
    told = ["the team & the goal", "a bank & a share", "the late price"] * 4
    tokenizer = Tokenizer.train(told, vocabulary=40, longest=24)
    ids, lengths = tokenizer.apply(told)
    description = Description(
        *("sequence", (24, 1), (), ("0", HOSTILE, "2"), Transform.identity(), 1.0),  # type: ignore[arg-type]
        vocabulary=tokenizer.vocabulary,
        tokenizer=tokenizer,
    )
    samples = Samples(
        prepared.pad(ids, lengths, 24), lengths, np.arange(12) % 3, np.zeros((12, 32), np.uint8)
    )
    prepared.write(trained / "data/prepared/digit_columns", description, {"test": samples})
    for variant in MODELS["digit_columns"]:
        sizes, section = params.dataset("digit_columns").architectures, params.variant(variant)
        made = Recipe.resolve(variant, section, "mlp", sizes, 4, description, "categorical")
        members = stack_members([0, 3], ["0"])
        Trained(made.build(members), members, made).save(trained / "models/digit_columns" / variant)
    reconstructions, drawn_from, *walks = drawn(trained, "digit_columns").others
    originals, others = reconstructions.texts[::2], reconstructions.texts[1::2]
    assert {text for _, text in originals} <= set(told)
    assert {name for name, _ in others} == {"reconstruction"}
    assert [name for name, _ in drawn_from.texts] == [f"draw {k}" for k in range(1, 11)]
    between, units = walks
    assert not between.drawings + units.drawings
    assert len(between.texts) == 3 * latents.PAIRS
    assert [name for name, _ in units.texts[:4]] == [
        "unit 1, start", "unit 1, middle", "unit 1, end", "unit 2, start"
    ]  # fmt: skip
    stack = Trained.load(trained / "models/digit_columns/variational").select(seed=3, view="all")
    codes = torch.from_numpy(stack.encode(samples.select(one_of_each(samples.labels, 3))))
    with torch.no_grad():
        decoded = stack.model.likelihood.mean(stack.model.decode(codes))[0].numpy()
    assert between.texts[0] == ("pair 1, start", tokenizer.invert(decoded)[0])
    assert between.texts[2] == ("pair 1, end", tokenizer.invert(decoded)[-1])
    page.write(params, trained)
    page_text = (trained / "reports/digit_columns.html").read_text(encoding="utf-8")
    assert "the team &amp; the goal" in page_text
    assert HOSTILE not in page_text


def test_tables_show_what_is_kept_of_each_column(trained: Path) -> None:
    pictures = drawn(trained, "breast_cancer")
    assert [one.heading for one in pictures.others] == [
        "Reconstruction by column", "Samples of variational", "Between codes of variational",
        "Units of variational", "Which unit of sparse tells which class"
    ]  # fmt: skip
    assert pictures.others[0].drawings[0][1].count("column ") >= 6
    (name, drawing), *_ = pictures.others[3].drawings
    assert name == "unit 1"
    assert drawing.count('class="line walk"') == 10
    assert len(re.findall("L", re.findall(r' d="([^"]+)"', drawing)[0])) == 6


def test_the_page_holds_the_pictures_and_class_names_are_text(trained: Path, params: Params) -> None:
    page.write(params, trained)
    text = (trained / "reports/digits.html").read_text(encoding="utf-8")
    assert text.count("data:image/png;base64,") == 6 + 2 + latents.PAIRS + 4 + 1 + 2 * latents.MOST_MAPS
    assert "Latent map" in text
    assert HOSTILE not in text
    assert "&lt;b&gt;odd&lt;/b&gt;" in text
    assert len(text) < 3_000_000


def test_a_stack_that_is_not_here_is_a_note(trained: Path) -> None:
    (trained / "models/digits/denoising/weights.safetensors").unlink()
    pictures = drawn(trained, "digits")
    assert pictures.map is None
    assert re.search(
        r"No pictures of denoising: not here are .*models/digits/denoising; `dvc pull`", pictures.notes[0]
    )


def test_a_stack_that_cannot_be_read_is_a_note_and_the_page_is_whole(trained: Path, params: Params) -> None:
    (trained / "models/digits/denoising/config.json").write_text("{}")
    pictures = drawn(trained, "digits")
    assert "not a trained stack" in pictures.notes[0]
    page.write(params, trained)
    assert "not a trained stack" in (trained / "reports/digits.html").read_text(encoding="utf-8")
