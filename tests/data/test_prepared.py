import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from latentops.data import prepared
from latentops.data.prepared import Description, Samples, Windows
from latentops.data.transforms import Transform
from latentops.errors import DataError

DESCRIPTION = Description("sequence", (3, 2), (), ("a", "b"), Transform.from_range(0, 16), 0.3, (0.0, 1.0))


def some_samples(rows: int) -> Samples:
    values = np.arange(rows * 6, dtype=np.float32).reshape(rows, 3, 2)
    labels = np.arange(rows, dtype=np.int64) % 2
    return Samples(values, np.arange(rows, dtype=np.int64) % 3 + 1, labels, np.zeros((rows, 32), np.uint8))


def write(directory: Path) -> None:
    sizes = {"train": 5, "stop": 2, "calibration": 0, "test": 3}
    prepared.write(directory, DESCRIPTION, {split: some_samples(n) for split, n in sizes.items()})  # type: ignore[misc]


def test_what_is_written_is_loaded(tmp_path: Path) -> None:
    write(tmp_path / "set")
    assert prepared.describe(tmp_path / "set") == DESCRIPTION
    loaded, wanted = prepared.load(tmp_path / "set", "train"), some_samples(5)
    for name in ("values", "lengths", "labels", "ids"):
        assert np.array_equal(getattr(loaded, name), getattr(wanted, name))
        assert getattr(loaded, name).dtype == getattr(wanted, name).dtype
    assert len(prepared.load(tmp_path / "set", "calibration")) == 0


def test_writing_again_replaces_all_and_gives_the_same_bytes(tmp_path: Path) -> None:
    write(tmp_path / "set")
    before = {
        path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()
    }
    (tmp_path / "set" / "stale.npy").touch()
    write(tmp_path / "set")
    after = {
        path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()
    }
    assert before == after


def test_windows_know_where_they_are_and_only_test_rows_which_steps_are_marked(tmp_path: Path) -> None:
    places = Windows(np.arange(5) * 60.0, np.arange(5) % 2, np.eye(5, 3, dtype=np.uint8))
    samples = replace(some_samples(5), windows=places)
    description = replace(DESCRIPTION, every=60.0)
    prepared.write(tmp_path / "set", description, {"train": samples, "test": samples})
    assert prepared.describe(tmp_path / "set") == description
    order = np.array([3, 0])
    for split in ("train", "test"):
        found = prepared.load(tmp_path / "set", split).select(order).windows  # type: ignore[arg-type]
        assert found is not None
        assert np.array_equal(found.times, places.times[order])
        assert np.array_equal(found.series, places.series[order])
        assert (found.marks is not None) == (split == "test")
    assert found.marks is not None
    assert np.array_equal(found.marks, np.eye(5, 3)[order])
    assert not (tmp_path / "set" / "train" / "marks.npy").exists()
    write(tmp_path / "set")
    assert not list((tmp_path / "set").rglob("times.npy"))


def test_selected_rows_keep_their_order() -> None:
    chosen = some_samples(5).select(np.array([4, 0]))
    assert np.array_equal(chosen.values, some_samples(5).values[[4, 0]])
    assert chosen.lengths is not None
    assert chosen.lengths.tolist() == [2, 1]


def test_padding_is_zero_and_only_after_the_last_step() -> None:
    flat = np.arange(1, 13, dtype=np.float32).reshape(6, 2)
    padded = prepared.pad(flat, np.array([1, 3, 2]), longest=4)
    assert padded.shape == (3, 4, 2)
    assert np.array_equal(padded[1, :3], flat[1:4])
    assert padded.sum() == flat.sum()
    assert not padded[0, 1:].any()


def test_what_is_missing_or_broken_names_the_file_and_the_remedy(tmp_path: Path) -> None:
    folder = tmp_path / "digits"
    with pytest.raises(DataError, match=r"dataset\.json: not found; .*dvc repro prepare@digits"):
        prepared.load(folder, "train")
    write(folder)
    (folder / "test" / "ids.npy").write_text("?")
    (folder / "stop" / "lengths.npy").unlink()
    for split in ("test", "stop"):
        with pytest.raises(DataError, match=f"{split}/.*dvc repro prepare@digits"):
            prepared.load(folder, split)


def test_importing_it_costs_nothing_heavy() -> None:
    code = "import latentops.data.prepared, sys; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"pandas", "pyarrow", "sklearn", "torch", "great_expectations"} & set(loaded)
