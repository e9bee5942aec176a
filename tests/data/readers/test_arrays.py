"""Arrays come back as they were saved, of any type of number, and pickled ones not at all."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from latentops.config import Source
from latentops.data import table
from latentops.errors import DataError
from tests.data.readers.made import read, rows, source

NUMBERS = ["u1", "i2", ">i4", "i8", "f2", "f4", "f8", "?"]


def arrays(name: str = "a.npz", kind: str = "tabular", label: str | None = "y", **changes: object) -> Source:
    limits = {"value_range": [0, 255]} if kind == "image" else {}
    return source(name, kind=kind, label=label, **{"read": {"format": "array"}, **limits, **changes})


def dense(found: pa.Table, label: str | None = "y") -> np.ndarray:
    return table.dense(found, table.layout_of(found, label))


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(NUMBERS).flatmap(
        lambda dtype: hnp.arrays(
            dtype,
            hnp.array_shapes(min_dims=1, max_dims=2, min_side=1, max_side=6),
            elements={"allow_nan": False}
            if dtype.startswith("f")
            else {"min_value": -(2**53), "max_value": 2**53}
            if dtype == "i8"
            else None,
        )
    ),
    st.sampled_from([64, 2**20]),
)
def test_a_table_of_any_numbers_comes_back(
    tmp_path_factory: pytest.TempPathFactory, values: np.ndarray, part: int
) -> None:
    folder = tmp_path_factory.mktemp("any")
    np.save(folder / "a.npy", values)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table, "PART_BYTES", part)
        found = read(arrays("a.npy", label=None), folder)
    flat = values.reshape(len(values), -1).astype(np.float64)
    assert np.array_equal(dense(found, None), flat)
    assert table.layout_of(found, None).features == tuple(f"x{at}" for at in range(flat.shape[1]))
    assert found.column(".position").to_pylist() == list(range(len(values)))


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (np.array([0, 1, 1]), ["0", "1", "1"]),
        (np.array([[0.0], [1.0], [np.nan]]), ["0", "1", None]),
        (np.array([True, False, True]), ["true", "false", "true"]),
        (np.array(["a", "é", ""]), ["a", "é", None]),
        (np.array([b"a", "é".encode(), b"c"]), ["a", "é", "c"]),
    ],
)
def test_labels_are_names(tmp_path: Path, labels: np.ndarray, names: list[str | None]) -> None:
    np.savez(tmp_path / "a.npz", X=np.arange(6.0).reshape(3, 2), y=labels)
    assert read(arrays(), tmp_path).column("y").to_pylist() == names


def test_columns_may_be_named_and_typed(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", data=np.array([[1, 0, 5], [2, 1, 6]]), y=[3, 4], other=[1])
    found = read(
        arrays(
            columns={"n": "numeric", "b": "boolean", "c": "categorical"},
            read={"format": "array", "values": "data", "relabel": {"3": "three"}},
        ),
        tmp_path,
    )
    assert found.column("b").to_pylist() == ["false", "true"]
    assert found.column("c").to_pylist() == ["5", "6"]
    assert found.column("y").to_pylist() == ["three", "4"]


def test_a_whole_number_that_float64_lacks_is_said_to_be_too_large(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[1], [2**60 + 1]]))
    found = read(arrays("a.npy", label=None), tmp_path)
    assert found.column("x0").to_pylist() == [1, None]
    assert "'1152921504606846977' is too large" in found.column(".problem").to_pylist()[1]


@pytest.mark.parametrize("dtype", ["u1", "f4", "i8"])
def test_images_have_their_channels_first(tmp_path: Path, dtype: str) -> None:
    values = np.random.default_rng(0).integers(0, 255, (5, 3, 4, 6)).astype(dtype)
    saved = {"first": values, "last": values.transpose(0, 2, 3, 1), "grey": values[:, 0]}
    for name, each in saved.items():
        np.savez(tmp_path / f"{name}.npz", X=each, y=np.arange(5))
    for name, channels in (("first", 3), ("last", 3), ("grey", 1)):
        found = read(arrays(f"{name}.npz", "image", channels=channels), tmp_path)
        assert np.array_equal(dense(found), values[:, :channels])
        assert table.layout_of(found, "y").bytes == (dtype == "u1")


def test_sequences_end_with_their_last_value(tmp_path: Path) -> None:
    values = np.arange(12.0).reshape(2, 3, 2)
    values[1, 2] = np.nan
    values[0, 1, 0] = np.nan
    np.savez(tmp_path / "a.npz", X=values, y=[0, 1])
    found = read(arrays(kind="sequence", channels=2), tmp_path)
    assert [len(each) for each in found.column("values").to_pylist()] == [6, 4]
    np.savez(tmp_path / "a.npz", X=values[:, :, 1], y=[0, 1])
    assert read(arrays(kind="sequence"), tmp_path).column("values").to_pylist() == [[1, 3, 5], [7, 9]]


def test_pickled_objects_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{"a": 1}, None]), allow_pickle=True)
    np.savez(tmp_path / "a.npz", X=np.array([[1, "x"]], dtype=object), y=[1])
    for found in (arrays("a.npy", label=None), arrays()):
        with pytest.raises(
            DataError, match=r"pickled objects, which aren't read.*save it again with a dtype"
        ):
            read(found, tmp_path)


@pytest.mark.parametrize(
    ("saved", "changes", "message"),
    [
        ({"X": np.ones((3, 2)), "y": np.ones(2)}, {}, r"X is \[3, 2\] and y is \[2\]; a label a row"),
        (
            {"x": np.ones((3, 2)), "y": np.ones(3)},
            {},
            r"no array 'X' \(.*known: x, y\); correct read\.values",
        ),
        ({"X": np.ones((3, 2))}, {}, r"no array 'y'.*correct read\.labels"),
        ({"X": np.ones((3, 2), complex), "y": np.ones(3)}, {}, "complex128, not real numbers"),
        ({"X": np.array([["a"]]), "y": np.ones(1)}, {}, "not real numbers"),
        ({"X": np.ones((0, 2)), "y": np.ones(0)}, {}, "no rows"),
        ({"X": np.ones((3, 2)), "y": np.ones(3, complex)}, {}, "labels are complex128"),
        ({"X": np.ones((3, 2, 2)), "y": np.ones(3)}, {}, "doesn't hold rows of kind: tabular"),
        ({"X": np.ones((3, 2)), "y": np.ones(3)}, {"kind": "image"}, "doesn't hold rows of kind: image"),
        (
            {"X": np.ones((3, 5, 4, 6)), "y": np.ones(3)},
            {"kind": "image", "channels": 3},
            "5 channels first or 6",
        ),
        ({"X": np.ones((3, 2)), "y": np.ones(3)}, {"columns": {"a": "numeric"}}, "2 columns, but .* names 1"),
    ],
)
def test_arrays_that_dont_fit_are_refused(
    tmp_path: Path, saved: dict[str, np.ndarray], changes: dict[str, object], message: str
) -> None:
    np.savez(tmp_path / "a.npz", **saved)
    with pytest.raises(DataError, match=message) as caught:
        read(arrays(**changes), tmp_path)
    assert "a.npz" in str(caught.value)


@pytest.mark.parametrize("keep", [0, 4, 40, 150])
def test_a_damaged_file_is_refused(tmp_path: Path, keep: int) -> None:
    np.save(tmp_path / "a.npy", np.ones((30, 2)))
    np.savez(tmp_path / "a.npz", X=np.ones((30, 2)), y=np.ones(30))
    for name, label in (("a.npy", None), ("a.npz", "y")):
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:keep])
        with pytest.raises(DataError, match=rf"{name}: not a NumPy file, or damaged") as caught:
            read(arrays(name, label=label), tmp_path)
        assert "\n" not in str(caught.value)


def idx(values: np.ndarray, code: int) -> bytes:
    return (
        bytes([0, 0, code, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()
    )


def mnist(*names: str, **changes: object) -> Source:
    files: list[dict[str, object]] = [
        {"path": name, "part": part}
        for name, part in zip(names, ("train",) * 2 + ("test",) * 2, strict=False)
    ]
    return source(
        *files,
        **{"kind": "image", "label": "y", "value_range": [0, 255], "read": {"format": "idx"}, **changes},
    )


@pytest.mark.parametrize("part", [100, 2**20])
def test_idx_files_come_in_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int) -> None:
    monkeypatch.setattr(table, "PART_BYTES", part)
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (7, 4, 5), np.uint8), random.integers(0, 256, (3, 4, 5), np.uint8)
    for name, each in zip(("a", "b"), images, strict=True):
        (tmp_path / f"{name}-images.gz").write_bytes(gzip.compress(idx(each, 8)))
        (tmp_path / f"{name}-labels").write_bytes(idx(np.arange(len(each), dtype=np.uint8), 8))
    found = read(
        mnist(
            "a-images.gz",
            "a-labels",
            "b-images.gz",
            "b-labels",
            read={"format": "idx", "relabel": {"0": "zero"}},
        ),
        tmp_path,
    )
    assert np.array_equal(dense(found)[:, 0], np.concatenate(images))
    assert found.column("y").to_pylist() == ["zero", *map(str, range(1, 7)), "zero", "1", "2"]
    assert found.column(".part").to_pylist() == ["train"] * 7 + ["test"] * 3
    assert found.column(".position").to_pylist() == [*range(7), *range(3)]


def test_idx_files_that_dont_fit_are_refused(tmp_path: Path) -> None:
    images, labels = idx(np.zeros((3, 4, 5), np.uint8), 8), idx(np.zeros(3, np.uint8), 8)

    def refused(message: str, one: bytes, two: bytes, name: str = "images.gz") -> None:
        (tmp_path / "images.gz").write_bytes(one)
        (tmp_path / "labels").write_bytes(two)
        with pytest.raises(DataError, match=message) as caught:
            read(mnist("images.gz", "labels"), tmp_path)
        assert name in str(caught.value)

    packed = gzip.compress(images)
    refused("the gzip file ends too early or is damaged", packed[:-12], labels)
    refused("not a gzip file", b"<!doctype html>", labels)
    refused("begins with b'PNG.', which no idx file does", gzip.compress(b"PNG."), labels)
    refused("ends after 2 of 3 rows", gzip.compress(images[:-1]), labels)
    refused("goes on after its 3 rows", gzip.compress(images + b"x"), labels)
    refused("ends within its header", gzip.compress(images[:9]), labels)
    refused(r"an array \[3, 4, 5\] where 3 labels are expected", packed, images, "labels")
    refused(r"an array \[3\] where images are expected; list files as", gzip.compress(labels), labels)
    refused(r"an array \[2\] where 3 labels", packed, idx(np.zeros(2, np.uint8), 8), "labels")
    with pytest.raises(DataError, match="without a file of labels; list files as images, labels"):
        rows(mnist("images.gz"), tmp_path)


@pytest.mark.parametrize("part", [1, 2**25])
def test_cifar_records_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int) -> None:
    monkeypatch.setattr(table, "PART_BYTES", part)
    records = np.random.default_rng(0).integers(0, 256, (4, 3073), np.uint8)
    (tmp_path / "a.bin").write_bytes(records.tobytes())
    found_in = source(
        "a.bin", kind="image", label="y", channels=3, value_range=[0, 255], read={"format": "cifar"}
    )
    found = read(found_in, tmp_path)
    assert np.array_equal(dense(found), records[:, 1:].reshape(-1, 3, 32, 32))
    assert found.column("y").to_pylist() == [str(each) for each in records[:, 0]]
    (tmp_path / "a.bin").write_bytes(records.tobytes()[:-1])
    with pytest.raises(DataError, match="12291 bytes are no whole number of records of 3073"):
        read(found_in, tmp_path)
    (tmp_path / "a.bin").write_bytes(b"")
    with pytest.raises(DataError, match="no rows"):
        read(found_in, tmp_path)
