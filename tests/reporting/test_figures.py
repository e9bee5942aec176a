"""Drawings: where things are put, and that no text becomes markup."""

import base64
import re
import struct
import zlib
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentops.data.prepared import Description, Samples
from latentops.data.transforms import Transform
from latentops.reporting import figures, svg
from latentops.reporting.pictures import names, one_of_each, principal, some
from latentops.reporting.results import Estimate

HOSTILE = '"><script>alert(1)</script>'


def pixels(address: str) -> np.ndarray:
    """The pixels [height, width, 4] of a PNG as `svg.png` writes it, read back chunk by chunk."""
    data = base64.b64decode(address.removeprefix("data:image/png;base64,"))
    width, height = struct.unpack(">II", data[16:24])
    at, body = 8, b""
    while at < len(data):
        size = struct.unpack(">I", data[at : at + 4])[0]
        kind, chunk = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        assert struct.unpack(">I", data[at + 8 + size : at + 12 + size])[0] == zlib.crc32(kind + chunk)
        body += chunk if kind == b"IDAT" else b""
        at += 12 + size
    lines = np.frombuffer(zlib.decompress(body), dtype=np.uint8).reshape(height, 1 + width * 4)
    assert not lines[:, 0].any()
    return lines[:, 1:].reshape(height, width, 4)


def test_a_strip_holds_the_images_as_they_are() -> None:
    images = np.linspace(-0.2, 1.2, 2 * 3 * 4, dtype=np.float32).reshape(2, 1, 3, 4)
    shown = pixels(svg.strip(images))
    assert shown.shape == (3, 9, 4)
    expected = (np.clip(images, 0, 1) * 255).round().astype(np.uint8)
    for channel in range(3):
        np.testing.assert_array_equal(shown[:, :4, channel], expected[0, 0])
        np.testing.assert_array_equal(shown[:, 5:, channel], expected[1, 0])
    assert not shown[:, 4].any()


def test_colour_stays_colour() -> None:
    images = np.zeros((1, 3, 2, 2), dtype=np.float32)
    images[0, 1] = 1
    assert (pixels(svg.strip(images)) == [0, 255, 0, 255]).all()


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_within_the_scale_and_rise(low: float, span: float) -> None:
    scale = svg.Scale(low, low + span, 0, 100)
    ticks = scale.ticks()
    slack = 1e-6 * max(1.0, abs(low), span)
    assert all(low - slack <= tick <= low + span + slack for tick in ticks)
    assert ticks == sorted(ticks)
    assert len(ticks) <= 6


@pytest.mark.parametrize("log", [False, True])
def test_a_scale_maps_its_ends_to_its_ends(log: bool) -> None:
    scale = svg.Scale(0.1, 10, 20, 200, log=log)
    assert scale(0.1) == pytest.approx(20)
    assert scale(10) == pytest.approx(200)
    assert scale(1.0) == pytest.approx(110 if log else 20 + 180 * 0.9 / 9.9)


def test_a_whisker_lies_within_its_cell_and_in_order() -> None:
    estimate = Estimate(mean=0.9, low=0.85, high=0.93)
    drawing = ElementTree.fromstring(figures.whisker(estimate, (0.8, 1.0), "variant", True, 0.9))
    line = next(node for node in drawing if node.get("class") == "range")
    mark = next(node for node in drawing if node.get("class") == "mark")
    left, middle, right = float(line.get("x1", 0)), float(mark.get("cx", 0)), float(line.get("x2", 0))
    assert 0 < left < middle < right < 128
    assert drawing.get("aria-label") == "0.900, interval 0.850–0.930"


def test_text_never_becomes_markup() -> None:
    points = np.random.default_rng(0).standard_normal((20, 2)).astype(np.float32)
    labels = np.arange(20) % 2
    dots = [figures.Dot(HOSTILE, 0.1, 0.5, "variant"), figures.Dot("b", 0.2, 0.7, "rival", True)]
    for drawing in (
        figures.cloud(points, labels, (HOSTILE, "b"), (HOSTILE, "y"), HOSTILE),
        figures.scatter(dots, HOSTILE, "y", HOSTILE),
        figures.shares({HOSTILE: 0.4, "b": -2.0}, HOSTILE),
        figures.ratios([figures.Ratio(HOSTILE, 2.0, HOSTILE, 1.5, "met")], HOSTILE),
    ):
        assert "<script" not in drawing
        ElementTree.fromstring(drawing)


@given(st.lists(st.floats(0.02, 90), min_size=1, max_size=8), st.floats(0.02, 90))
def test_bars_lie_on_their_side_of_one_and_within_the_drawing(values: list[float], target: float) -> None:
    rows = [figures.Ratio(f"row {k}", value, f"{value:.2f}", target, "met") for k, value in enumerate(values)]
    drawing = ElementTree.fromstring(figures.ratios(rows, "label"))
    space = "{http://www.w3.org/2000/svg}"
    shown = list(drawing.iter(f"{space}rect"))
    bars = [bar for bar in shown if bar.find(f"{space}title") is not None]
    one = next(line for line in drawing.iter(f"{space}line") if line.get("class") == "one")
    middle = float(one.get("x1", 0))
    assert len(bars) == len(values)
    for bar, value in zip(bars, values, strict=True):
        left = float(bar.get("x", 0))
        right = left + float(bar.get("width", 0))
        assert 0 < left < right < float(drawing.get("width", 0))
        assert (
            left >= middle - 0.01 if value >= 1 else right <= middle + 1.01
        )  # a bar is never thinner than 1
    ticks = [line for line in drawing.iter(f"{space}line") if line.get("class") == "target"]
    assert len(ticks) == len(values) + 1  # and the key's


def test_a_scatter_shows_every_point() -> None:
    dots = [figures.Dot(f"variant {k}", 0.1, 0.5, "variant") for k in range(12)]
    drawing = figures.scatter(dots, "x", "y", "label")
    assert drawing.count("<circle") == 12
    assert {f"variant {k}: 0.100, 0.500" for k in range(12)} <= set(
        re.findall(r"<title>(.*?)</title>", drawing)
    )


@pytest.mark.parametrize("channels", [1, 3, 8, 20])
def test_a_sequence_is_drawn_a_line_a_channel(channels: int) -> None:
    values = np.random.default_rng(1).random((6, channels), dtype=np.float32)
    drawing = figures.ridges({"train": values, "stop": values}, (0, 1), "label")
    assert drawing.count('class="line train"') == min(channels, figures.MOST_CHANNELS)
    assert drawing.count('class="line stop"') == min(channels, figures.MOST_CHANNELS)


def test_a_sequence_of_one_step_can_be_drawn() -> None:
    ElementTree.fromstring(figures.ridges({"stop": np.ones((1, 2), dtype=np.float32)}, (0, 1), "label"))


def test_a_large_map_draws_no_more_points_than_it_may() -> None:
    points = np.random.default_rng(2).standard_normal((30_000, 2)).astype(np.float32)
    drawing = figures.cloud(points, np.zeros(30_000, dtype=np.int64), ("a",), ("x", "y"), "label")
    assert drawing.count("h0") <= figures.MOST_POINTS


@pytest.mark.parametrize("rows", [1, 5, 400])
def test_a_map_by_a_number_has_a_grade_for_each_eighth_in_order(rows: int) -> None:
    random = np.random.default_rng(0)
    points, values = random.normal(size=(rows, 2)), np.exp(random.normal(size=rows) * 3)
    drawing = figures.graded(points, values, "price <€>", ("a", "b"), "map")
    assert "price &lt;€&gt;" in drawing
    groups = re.findall(
        r'class="dots g(\d)" d="[^"]+"><title>price &lt;€&gt; (\S+) to (\S+): (\d+) rows', drawing
    )
    assert sum(int(count) for *_, count in groups) == rows
    grades = [int(grade) for grade, *_ in groups]
    assert grades == sorted(set(grades))
    ends = [float(end.replace(",", "")) for _, low, high, _ in groups for end in (low, high)]
    assert ends == sorted(ends)
    assert len(re.findall(r'class="dots g\d" d="M[^M"]+" />', drawing)) == 8, "the key"
    if rows == 400:
        assert [int(count) for *_, count in groups] == [50] * 8


def test_a_number_that_is_the_same_everywhere_is_drawn_in_one_colour() -> None:
    drawing = figures.graded(np.eye(2), np.full(2, 7.0), "price", ("a", "b"), "map")
    assert "price 7 to 7: 2 rows" in drawing


def test_the_principal_plane_finds_the_directions_of_most_variance() -> None:
    random = np.random.default_rng(3)
    turn = np.linalg.qr(random.standard_normal((5, 5)))[0]
    values = random.standard_normal((4000, 5)) * [5, 3, 0.1, 0.1, 0.1] @ turn
    plane, shares = principal(values, values)
    assert plane.std(axis=0) == pytest.approx([5, 3], rel=0.05)
    assert sum(shares) == pytest.approx(1, abs=0.01)


def test_a_code_of_one_number_has_a_plane() -> None:
    values = np.random.default_rng(4).standard_normal((50, 1))
    plane, shares = principal(values, values)
    assert plane.shape == (50, 2)
    assert shares == pytest.approx((1.0, 0.0))


def test_rows_with_a_number_are_taken_from_the_lowest_to_the_highest_and_named_by_it() -> None:
    targets = np.random.default_rng(0).permutation(100) * 1_000.0
    zeros = np.zeros(100, np.int64)
    test = Samples(np.zeros((100, 2), np.float32), None, zeros, np.zeros((100, 32), np.uint8), None, targets)
    few = some(test, 1)
    assert few.targets is not None
    assert few.targets.tolist() == sorted(few.targets)
    assert (few.targets[0], few.targets[-1]) == (0, 99_000)
    assert np.ptp(np.diff(few.targets)) <= 1_000
    description = Description(
        "tabular", (2,), ("a", "b"), ("unlabelled",), Transform.identity(), 1.0, target="price"
    )
    assert names(few, description)[-1] == "price 99,000"
    assert len(some(test.select(slice(0, 3)), 1)) == 3


def test_samples_are_taken_from_the_classes_in_turn() -> None:
    labels = np.array([0] * 50 + [1] * 3 + [3] * 50)
    rows = one_of_each(labels, 4)
    assert len(rows) == len(set(rows.tolist())) == 10
    assert [int((labels[rows] == k).sum()) for k in range(4)] == [4, 3, 0, 3]


def test_one_far_row_does_not_squeeze_the_others() -> None:
    means = [0.90, 0.91, 0.92, 0.93, 0.94, 0.1]
    domain = figures.fences(means)
    assert domain == (0.90, 0.94)
    assert figures.fences([0.90, 0.91, 0.92, 0.93, 0.94, 0.95]) == (0.90, 0.95)
    drawing = figures.whisker(Estimate(mean=0.1, low=0.05, high=0.15), domain, "variant", False, 0.94)
    assert "0.100, interval 0.0500–0.150" in drawing
    assert max(map(float, re.findall(r'x[12]="(-?[\d.]+)"', drawing))) <= 128
    dots = [figures.Dot(f"v{k}", 0.1 + k, mean, "variant") for k, mean in enumerate(means)]
    assert "v5 ↓ 0.100" in figures.scatter(dots, "x", "y", "label")


def test_every_variant_of_a_crowd_is_named() -> None:
    random = np.random.default_rng(5)
    crowd = [
        figures.Dot(f"undercomplete {k}", x, y, "variant") for k, (x, y) in enumerate(random.random((9, 2)))
    ]
    near = [figures.Dot(d.name, 0.5 + d.x / 50, 0.5 + d.y / 50, d.role) for d in crowd]
    far = [figures.Dot("a", 0.01, 0.4, "variant"), figures.Dot("b", 1.0, 0.6, "variant")]
    drawing = figures.scatter([*near, *far], "x", "y", "label")
    assert set(re.findall(r">(undercomplete \d)[^<]*</text>", drawing)) == {d.name for d in crowd}
