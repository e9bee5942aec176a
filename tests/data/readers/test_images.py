"""Folders of pictures of any size and mode become images of one, and a broken one keeps its row."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from latentops.config import Source
from latentops.data import table
from latentops.errors import ConfigError, DataError
from tests.data.readers.made import read, source


def pictures(size: tuple[int, int] = (4, 6), label: str | None = None, **how: object) -> Source:
    return source(
        "folder",
        kind="image",
        label=label,
        value_range=[0, 255],
        read={"format": "images", "size": list(size), **how},
    )


def saved(path: Path, picture: Image.Image, **how: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, **how)


def grey(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)


def pixels(found: pa.Table) -> np.ndarray:
    return table.dense(found, table.layout_of(found, None))


def test_a_picture_of_the_size_comes_back_as_it_is(tmp_path: Path) -> None:
    values = grey(4, 6)
    colours = np.stack([values, 255 - values, values // 2], axis=2)
    saved(tmp_path / "folder/a.png", Image.fromarray(values))
    saved(tmp_path / "folder/b.png", Image.fromarray(colours))
    found = read(pictures(), tmp_path)
    assert np.array_equal(pixels(found)[0, 0], values)
    found = read(pictures(colour=True), tmp_path)
    assert np.array_equal(pixels(found)[0], np.stack([values] * 3))
    assert np.array_equal(pixels(found)[1], colours.transpose(2, 0, 1))
    assert table.layout_of(found, None).bytes


def test_a_subfolder_is_a_class_and_paths_give_the_order(tmp_path: Path) -> None:
    for name in ("b/2.png", "a/10.png", "a/deep/1.png", "root.png", "a/9.png"):
        saved(tmp_path / "folder" / name, Image.fromarray(grey(4, 6)))
    for passed in ("a/Thumbs.db", ".hidden/x.txt", "b/.DS_Store"):
        (tmp_path / "folder" / passed).parent.mkdir(exist_ok=True)
        (tmp_path / "folder" / passed).write_text("?")
    found = read(pictures(label="kind", relabel={"b": "B"}, group=r"(\d)\.png"), tmp_path)
    assert found.column(".name").to_pylist() == ["a/10.png", "a/9.png", "a/deep/1.png", "b/2.png", "root.png"]
    assert found.column("kind").to_pylist() == ["a", "a", "a", "B", None]
    assert found.column(".group").to_pylist() == ["0", "9", "1", "2", "root.png"]
    assert found.column(".position").to_pylist() == list(range(5))
    assert read(pictures(), tmp_path).column_names == [
        ".source",
        ".position",
        ".name",
        ".height",
        ".width",
        ".problem",
        "pixels",
    ]


def test_modes_become_grey_or_colour_by_the_rule(tmp_path: Path) -> None:
    def mean(name: str, colour: bool = True) -> list[float]:
        found = read(pictures(colour=colour), tmp_path)
        at = found.column(".name").to_pylist().index(name)
        return pixels(found)[at].mean(axis=(1, 2)).round().tolist()

    folder, size = tmp_path / "folder", (6, 4)
    saved(folder / "cmyk.jpg", Image.new("CMYK", size, (0, 255, 255, 0)), quality=100)
    saved(folder / "clear.png", Image.new("RGBA", size, (200, 100, 50, 0)))
    saved(folder / "palette.png", Image.new("RGB", size, (10, 20, 30)).quantize(4))
    saved(folder / "deep.png", Image.fromarray(np.full((4, 6), 200 * 257, np.uint16)))
    saved(folder / "one_bit.png", Image.new("1", size, 1))
    saved(folder / "red.png", Image.new("RGB", size, (255, 0, 0)))
    red = mean("cmyk.jpg")
    assert red[0] > 230
    assert max(red[1:]) < 60
    assert mean("clear.png") == [0, 0, 0]
    assert mean("palette.png") == [10, 20, 30]
    assert mean("deep.png") == [200, 200, 200]
    assert mean("one_bit.png") == [255, 255, 255]
    assert mean("red.png", colour=False) == [76]


def test_a_picture_is_turned_as_its_exif_data_say(tmp_path: Path) -> None:
    values = grey(6, 4)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise to see it upright
    saved(tmp_path / "folder/a.png", Image.fromarray(values), exif=exif)
    assert np.array_equal(pixels(read(pictures(), tmp_path))[0, 0], np.rot90(values, -1))


def test_resize_smooths_and_crop_cuts_the_middle(tmp_path: Path) -> None:
    stripes = np.tile(np.array([0, 255], np.uint8), (40, 30))
    saved(tmp_path / "folder/a.png", Image.fromarray(stripes))
    small = pixels(read(pictures(size=(8, 8)), tmp_path))[0, 0]
    assert np.abs(small - 127.5).max() < 20, "without smoothing it would be black or white"

    wide = np.zeros((4, 12), np.uint8)
    wide[:, 4:8] = 200
    saved(tmp_path / "folder/a.png", Image.fromarray(wide))
    assert (pixels(read(pictures(size=(4, 4), fit="crop"), tmp_path)) == 200).all()


def test_tiles_cover_every_pixel_and_stay_together(tmp_path: Path) -> None:
    values = grey(10, 13)
    saved(tmp_path / "folder/a.png", Image.fromarray(values))
    saved(tmp_path / "folder/b.png", Image.fromarray(grey(2, 3)))
    found = read(pictures(size=(4, 6), fit="tile"), tmp_path)
    assert found.column(".group").to_pylist() == ["a.png"] * 9 + ["b.png"]
    rebuilt = np.full((10, 13), -1.0)
    for name, tile in list(zip(found.column(".name").to_pylist(), pixels(found)[:, 0], strict=True))[:9]:
        top, left = map(int, name.removeprefix("a.png[").removesuffix("]").split(","))
        rebuilt[top : top + 4, left : left + 6] = tile
    assert np.array_equal(rebuilt, values)
    small = grey(2, 3)
    mirrored = np.block([[small, small[:, ::-1]], [small[::-1], small[::-1, ::-1]]])
    assert np.array_equal(pixels(found)[9, 0], mirrored)
    assert len(set(found.column(".name").to_pylist())) == 10


def test_a_picture_that_cant_be_read_keeps_its_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "folder"
    saved(folder / "a.png", Image.fromarray(grey(4, 6)))
    saved(folder / "b.jpg", Image.fromarray(grey(40, 60)))
    saved(folder / "c.png", Image.fromarray(grey(40, 60)))
    (folder / "b.jpg").write_bytes((folder / "b.jpg").read_bytes()[:-500])
    (folder / "c.png").write_bytes((folder / "c.png").read_bytes()[:-900])
    (folder / "d.png").write_text("<html>not found</html>")
    (folder / "e.jpg").write_bytes(b"")
    saved(folder / "f.png", Image.new("L", (100, 100)))
    saved(folder / "g.tiff", Image.fromarray(np.zeros((4, 6), np.float32)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 6000)
    found = read(pictures(), tmp_path)
    problems = found.column(".problem").to_pylist()
    assert found.column(".name").to_pylist() == [
        "a.png", "b.jpg", "c.png", "d.png", "e.jpg", "f.png", "g.tiff",
    ]  # fmt: skip
    assert problems[0] is None
    assert "damaged: " in problems[1]
    assert "damaged: " in problems[2]
    assert problems[3] == problems[4] == "not a picture, or its beginning is damaged"
    assert problems[5] == "the picture has more than 6000 pixels; make it smaller"
    assert "real numbers" in problems[6]
    assert found.column("pixels").is_null().to_pylist() == [False] + [True] * 6


def test_parts_give_the_same_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for at in range(7):
        saved(tmp_path / f"folder/{at}.png", Image.fromarray(grey(9, 9, at)))
    whole = read(pictures(fit="tile"), tmp_path)
    monkeypatch.setattr(table, "PART_BYTES", 4 * 24 * 5)
    assert read(pictures(fit="tile"), tmp_path).equals(whole)


@pytest.mark.parametrize(
    ("name", "message"),
    [("a.txt", r"1 files are no pictures \(a\.txt\); move them"), ("Thumbs.db", "no files in it")],
)
def test_a_folder_of_something_else_is_refused(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / name).write_text("?")
    with pytest.raises(DataError, match=message):
        read(pictures(), tmp_path)


def test_a_flat_folder_has_no_classes(tmp_path: Path) -> None:
    saved(tmp_path / "folder/a.png", Image.fromarray(grey(4, 6)))
    with pytest.raises(DataError, match="no subfolder of a class"):
        read(pictures(label="kind"), tmp_path)
    with pytest.raises(DataError, match="not found; a folder of files is expected"):
        read(pictures(), tmp_path / "nowhere")
    for wrong, says in (("(", "no regular expression"), ("a", "has no group")):
        with pytest.raises(ConfigError, match=says):
            read(pictures(group=wrong), tmp_path)
