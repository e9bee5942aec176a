"""A package as ONNX: the graph gives what the package gives, and what can't be one is refused by name."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx as format_
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from latentops import cli
from latentops.config import ArchitectureName, Architectures
from latentops.data import transforms
from latentops.data.encoding import Encoding
from latentops.data.transforms import Transform
from latentops.errors import LatentOpsError, RegistryError
from latentops.registry import onnx, versions
from latentops.registry.gates import deviation
from latentops.registry.package import Facts, Package
from latentops.training.members import VIEW_ALL, Member
from latentops.training.trained import Recipe, Trained
from tests import toy
from tests.toy import FIXED, KINDS, VARIANTS, recipe

COMBINATIONS = [
    pytest.param(variant, architecture, kind, id=f"{variant}-{architecture}-{kind}")
    for variant in VARIANTS
    for architecture in FIXED.get(variant, ("mlp",))
    for kind in KINDS
    if kind != "tokens"
]
SKEWED = np.exp(np.random.default_rng(0).normal(size=(300, 7))) - 1
TRANSFORMS = {
    "standard": Transform.fit(1e6 * SKEWED + 1e8),
    "robust": Transform.fit_robust(SKEWED),
    "power": Transform.fit_power(SKEWED),
    "quantile": Transform.fit_quantile(np.round(SKEWED, 1)),
}

SHORT = (3, 3)
OPTIONS = {
    "tied": ("undercomplete", "tabular", "mlp", {"tied": True, "activation": "gelu"}, {}),
    "top-k": ("sparse", "tabular", "mlp", {}, {"penalty": "top_k"}),
    "divergence": ("sparse", "tabular", "mlp", {}, {"penalty": "kl"}),
    "resized": ("convolutional", "image", "convolutional", {"down": "pooled", "up": "resize"}, {}),
    "residual": (
        "convolutional",
        "sequence",
        "convolutional",
        {"residual": 1, "normalisation": "layer", "dilation": 2, "attention": True},
        {},
    ),
    "lstm": ("undercomplete", "sequence", "recurrent", {"cell": "lstm", "layers": 2, "pooling": "mean"}, {}),
    "chunks": ("undercomplete", "sequence", "recurrent", {"pooling": "attention", "chunk": 2}, {}),
    "step after step": ("undercomplete", "sequence", "recurrent", {"decoder": "autoregressive"}, {}),
    "a code a step": ("sequence", "sequence", "recurrent", {}, {"latent": "per_step"}),
    "rotary": ("undercomplete", "sequence", "transformer", {"positions": "rotary", "pooling": "last"}, {}),
    "step by step": ("undercomplete", "sequence", "transformer", {"decoder": "autoregressive"}, {}),
    "few at once": ("undercomplete", "sequence", "transformer", {"queries": 2, "pooling": "mean"}, {}),
    "patches": ("undercomplete", "image", "transformer", {"patch": 1}, {}),
}
"""Settings of architectures and variants that change the graph."""


def package(made: Recipe, **described: object) -> Package:
    """One member at its initial weights, of data as its recipe has it or is `described`."""
    made = replace(made, description=replace(made.description, **described))
    members = [Member(0, VIEW_ALL)]
    facts = Facts("toy", made.variant, 0, 0.05, "content", "", "0", {})
    return Package(Trained(made.build(members), members, made), {}, facts)


def rows(model: Package, count: int, seed: int) -> object:
    """Raw rows, of sequences the first as short and the second as long as may be."""
    description, random = model.description, np.random.default_rng(seed)
    values = random.normal(size=(count, *description.transform.raw_shape(description.shape)))
    if description.kind != "sequence":
        return values
    lengths = [*(1, description.shape[0])[-count:], *random.integers(1, description.shape[0] + 1, size=count)]
    return [row[:steps] for row, steps in zip(values, lengths, strict=False)]


def assert_same(model: Package, path: Path, raw: object) -> None:
    """Codes and reconstructions of the graph in `path` are the package's."""
    runs = onnx.session(path)
    codes, reconstruction = runs.run(["codes", "reconstruction"], onnx.inputs(model, raw))
    assert deviation(model.encode(raw), codes) <= 1e-5
    here = onnx.inputs(model, model.reconstruct(raw))[onnx.input_name(model.description)]
    assert here.shape == reconstruction.shape
    assert deviation(here, reconstruction) <= 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(("variant", "architecture", "kind"), COMBINATIONS)
def test_the_graph_gives_what_the_package_gives(
    variant: str, architecture: ArchitectureName, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of any number of rows, and of sequences of any length."""
    if architecture in ("recurrent", "transformer"):  # exporting takes a second a step
        for name, shape in (("image", (1, 3, 4)), ("tabular", (3,)), ("sequence", SHORT)):
            monkeypatch.setitem(toy.EVERY, name, shape)
            monkeypatch.setitem(toy.KINDS, name, shape)
    model, path = package(recipe(variant, kind, architecture)), tmp_path / "model.onnx"
    assert onnx.export(model, path) <= 1e-5
    for count in (1, 7):
        assert_same(model, path, rows(model, count, seed=100 + count))


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIONS)
def test_so_it_does_under_every_option(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    variant, kind, architecture, options, section = OPTIONS[name]
    small = toy.SMALL.model_dump()
    small[architecture] |= options
    monkeypatch.setattr(toy, "SMALL", Architectures.model_validate(small))
    monkeypatch.setitem(toy.SECTIONS, variant, toy.SECTIONS[variant] | section)
    if architecture != "convolutional":
        monkeypatch.setitem(toy.KINDS, "sequence", SHORT)
    model, path = package(recipe(variant, kind, architecture)), tmp_path / "model.onnx"
    assert onnx.export(model, path) <= 1e-5
    assert_same(model, path, rows(model, 7, seed=107))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["power", "quantile"])
def test_a_tables_transform_is_in_the_graph(name: str, tmp_path: Path) -> None:
    model = package(recipe("undercomplete", "tabular"), transform=TRANSFORMS[name])
    path = tmp_path / "model.onnx"
    onnx.export(model, path)
    assert_same(model, path, SKEWED)


@pytest.mark.slow
def test_so_are_the_edges_of_images_and_flat_ones_have_none(tmp_path: Path) -> None:
    made = recipe("undercomplete", "image")
    transform = Transform.from_range(0, 16)
    made = replace(made, description=replace(made.description, transform=replace(transform, orientations=4)))
    described = replace(made, description=replace(made.description, shape=(5, 6, 5)))
    model, path = package(described), tmp_path / "model.onnx"
    onnx.export(model, path)
    images = np.random.default_rng(0).integers(0, 17, size=(9, 1, 6, 5)).astype(float)
    images[0], images[1, :, :3], images[2, :, :, 2:] = 0, 16, 7
    assert_same(model, path, images)


@pytest.mark.slow
def test_a_missing_number_is_missing_in_the_graph(tmp_path: Path) -> None:
    encoding = Encoding(
        {f"x{at}": "numeric" for at in range(7)}, {}, 0, ("x1", "x5"), Transform.fit_power(SKEWED)
    )
    made = recipe("undercomplete", "mixed")
    described = replace(
        made.description,
        shape=(encoding.entries,),
        columns=encoding.widths,
        optional=encoding.flagged,
        encoding=encoding,
    )
    model, path = package(replace(made, description=described)), tmp_path / "model.onnx"
    onnx.export(model, path)
    raw = pd.DataFrame(SKEWED[:20], columns=list(encoding.types))
    raw.loc[3:8, "x1"] = raw.loc[7:15, "x5"] = np.nan
    assert_same(model, path, raw)
    assert not model.reconstruct(raw).isna().any(axis=None)


@pytest.mark.slow
def test_it_says_what_it_is_of_and_takes_any_number_of_rows(at_live: Path, tmp_path: Path) -> None:
    """As `latentops export` writes it."""
    path = tmp_path / "table.onnx"
    cli.export("table@champion", path)
    model = versions.load("table")
    graph = format_.load(path)
    format_.checker.check_model(graph, full_check=True)
    told = {each.key: each.value for each in graph.metadata_props}
    assert (told["dataset"], told["variant"], told["seed"]) == ("table", "variational", str(model.facts.seed))
    assert told["content_hash"] == model.facts.content_hash
    assert json.loads(told["columns"]) == list(model.description.features)
    assert [each.name for each in graph.graph.input] == ["features"]
    assert graph.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "rows"
    assert_same(model, path, rows(model, 300, seed=0))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("tokens", "toy: text can't be exported: ONNX has no tokenizer"),
        ("mixed", r"toy: columns that aren't numbers .* colour \(categorical\), born \(date\); use"),
    ],
)
def test_what_onnx_has_no_words_for_is_refused_by_name(kind: str, message: str, tmp_path: Path) -> None:
    columns = {"size": "numeric", "colour": "categorical", "born": "date"}
    encoding = Encoding(columns, {"colour": ("red",)}, 1, (), Transform.identity())
    model = package(recipe("undercomplete", kind), **({"encoding": encoding} if kind == "mixed" else {}))
    with pytest.raises(LatentOpsError, match=message):
        onnx.export(model, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_what_torch_cant_express_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a model that does one thing or another, as its codes are."""

    class Forked(onnx.Graph):
        def forward(self, rows: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
            codes, made = super().forward(rows, lengths)
            return (codes, made) if bool((codes > 0).any()) else (-codes, made)

    monkeypatch.setattr(onnx, "Graph", Forked)
    with pytest.raises(
        LatentOpsError, match=r"torch can't express sparse under the architecture mlp as .*; use"
    ):
        onnx.export(package(recipe("sparse", "tabular")), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_graph_that_differs_isnt_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Off(onnx.Graph):
        def forward(self, rows: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
            codes, made = super().forward(rows, lengths)
            return codes + 0.01, made

    monkeypatch.setattr(onnx, "Graph", Off)
    path = tmp_path / "model.onnx"
    path.write_text("as it was")
    with pytest.raises(RegistryError, match=r"toy: codes of the ONNX graph off by .* isn't written"):
        onnx.export(package(recipe("undercomplete", "tabular")), path)
    assert [each.read_text() for each in tmp_path.iterdir()] == ["as it was"]


@settings(deadline=None, max_examples=30)
@given(name=st.sampled_from(sorted(TRANSFORMS)), seed=st.integers(0, 999), spread=st.floats(0.1, 30))
def test_scaling_in_torch_is_the_transform(name: str, seed: int, spread: float) -> None:
    """Both ways, also far beyond what it was fitted on."""
    transform = TRANSFORMS[name]
    scaling = onnx.Scaling(transform)
    raw = transform.invert(np.random.default_rng(seed).normal(scale=spread, size=(5, 7)))
    prepared = transform.apply(raw)
    np.testing.assert_allclose(scaling(torch.from_numpy(raw)), prepared, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(
        scaling.invert(torch.from_numpy(prepared)), transform.invert(prepared), rtol=1e-9
    )


@settings(deadline=None, max_examples=30)
@given(orientations=st.integers(1, 8), levels=st.sampled_from([1, 2, 5, 1000]), seed=st.integers(0, 999))
def test_edges_in_torch_are_those_of_the_transform(orientations: int, levels: int, seed: int) -> None:
    """Also where a gradient lies along a direction that is counted, or there is none."""
    images = np.random.default_rng(seed).integers(0, levels, size=(4, 2, 6, 5)).astype(np.float32) / levels
    found = onnx.edges(torch.from_numpy(images), orientations)
    np.testing.assert_allclose(found**2, transforms.edges(images, orientations) ** 2, atol=1e-6)


def test_what_a_graph_takes_is_named_as_the_served_models_column(at_live: Path) -> None:
    kinds = {name: versions.load(name).description for name in ("pictures", "table", "series")}
    assert {name: onnx.input_name(each) for name, each in kinds.items()} == {
        "pictures": "pixels",
        "table": "features",
        "series": "values",
    }
