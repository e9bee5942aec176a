"""Public sets as they are published, where `LATENTOPS_MIRROR` has them."""

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from latentops.config import Source
from latentops.data import table
from tests.data.readers.made import read, source

ADULT = {
    "age": "numeric", "workclass": "categorical", "fnlwgt": "numeric", "education": "categorical",
    "education-num": "numeric", "marital-status": "categorical", "occupation": "categorical",
    "relationship": "categorical", "race": "categorical", "sex": "categorical", "capital-gain": "numeric",
    "capital-loss": "numeric", "hours-per-week": "numeric", "native-country": "categorical",
}  # fmt: skip


def problems(found: pa.Table) -> list[str]:
    return [each for each in found.column(".problem").to_pylist() if each]


def counts(found: pa.Table, label: str) -> dict[str, int]:
    return dict(Counter(found.column(label).to_pylist()))


def test_adult(mirror: Path) -> None:
    how = {
        "format": "csv",
        "header": [*ADULT, "income"],
        "missing": ["?"],
        "comment": "|",
        "relabel": {"<=50K.": "<=50K", ">50K.": ">50K"},
    }
    files: list[dict[str, object]] = [
        {"path": "tabular/adult/adult.data", "part": "train"},
        {"path": "tabular/adult/adult.test", "part": "test"},
    ]
    found = read(source(*files, columns=ADULT, label="income", read=how), mirror)
    assert Counter(found.column(".part").to_pylist()) == {"train": 32561, "test": 16281}
    assert counts(found, "income") == {"<=50K": 37155, ">50K": 11687}
    assert problems(found) == []
    assert found.column("workclass").null_count == 2799
    assert found.column("age").null_count == 0
    assert pc.mean(found.column("age")).as_py() == pytest.approx(38.64, abs=0.01)


def test_german_credit_and_auto_imports(mirror: Path) -> None:
    names = [f"x{at}" for at in range(1, 21)]
    columns = dict.fromkeys(names, "categorical")
    how = {"format": "csv", "header": [*names, "credit"], "relabel": {"1": "good", "2": "bad"}}
    found = read(
        source("tabular/german_credit/german.csv", columns=columns, label="credit", read=how), mirror
    )
    assert counts(found, "credit") == {"good": 700, "bad": 300}

    names = [f"x{at}" for at in range(26)]
    columns = {
        name: "numeric" if at in (1, *range(9, 14)) else "categorical" for at, name in enumerate(names)
    }
    how = {"format": "csv", "header": names, "missing": ["?"]}
    found = read(source("tabular/auto_imports/auto_imports.csv", columns=columns, read=how), mirror)
    assert found.num_rows == 201
    assert problems(found) == []
    assert found.column("x1").null_count == 37


def test_anomaly_sets_in_arrays(mirror: Path) -> None:
    sizes = {}
    for path in sorted((mirror / "tabular/adbench_classical").glob("*.npz")):
        found_in = source(path.name, label="y", read={"format": "array"})
        found = read(found_in, path.parent)
        assert problems(found) == []
        sizes[path.stem] = (found.num_rows, len(table.layout_of(found, "y").features))
        assert set(found.column("y").to_pylist()) == {"0", "1"}
    assert len(sizes) == 17
    assert sizes["32_shuttle"] == (49097, 9)
    assert sizes["4_breastw"] == (683, 9)


def test_fashion_mnist(mirror: Path) -> None:
    files: list[dict[str, object]] = [
        {"path": f"images/fashion_mnist/{part}-{what}-idx{levels}-ubyte.gz", "part": side}
        for part, side in (("train", "train"), ("t10k", "test"))
        for what, levels in (("images", 3), ("labels", 1))
    ]
    found_in = source(*files, kind="image", label="y", value_range=[0, 255], read={"format": "idx"})
    found = read(found_in, mirror)
    assert Counter(found.column(".part").to_pylist()) == {"train": 60000, "test": 10000}
    assert counts(found, "y") == {str(at): 7000 for at in range(10)}
    layout = table.layout_of(found, "y")
    assert (layout.shape, layout.bytes) == ((1, 28, 28), True)


def tiles(**how: object) -> Source:
    read_as = {"format": "images", "size": [64, 64], **how}
    return source("images/magnetic_tile", kind="image", label="y", value_range=[0, 255], read=read_as)


def test_magnetic_tiles(mirror: Path) -> None:
    for fit in ("resize", "crop"):
        found = read(tiles(fit=fit), mirror)
        assert counts(found, "y") == {"MT_Blowhole": 40, "MT_Free": 60}
        assert problems(found) == []
        assert table.dense(found, table.layout_of(found, "y")).std(axis=(1, 2, 3)).min() > 1
    found = read(tiles(fit="tile", group=r"(exp\d_num_\d+)"), mirror)
    assert found.num_rows > 400
    assert len(set(found.column(".group").to_pylist())) == 100


def archive(name: str, channels: int) -> Source:
    files: list[dict[str, object]] = [
        {"path": f"sequences/{name}/{name}_{part.upper()}.ts", "part": part} for part in ("train", "test")
    ]
    return source(*files, kind="sequence", label="y", channels=channels, read={"format": "ts"})


def test_archive_sets(mirror: Path) -> None:
    found = read(archive("JapaneseVowels", 12), mirror)
    assert Counter(found.column(".part").to_pylist()) == {"train": 270, "test": 370}
    assert problems(found) == []
    _, sizes = table.ragged(found)
    assert (sizes.min(), sizes.max()) == (7 * 12, 29 * 12)
    assert len(counts(found, "y")) == 9
    flat, _ = table.ragged(found)
    assert flat[:2].tolist() == pytest.approx([1.860936, -0.207383])
    for name, rows, steps in (("GunPoint", 200, 150), ("ItalyPowerDemand", 1096, 24)):
        found = read(archive(name, 1), mirror)
        assert found.num_rows == rows
        assert set(table.ragged(found)[1].tolist()) == {steps}

    path = "sequences/ECG5000_train_only/ECG5000_TRAIN.txt"
    found = read(source(path, kind="sequence", label="y", read={"format": "ts"}), mirror)
    assert counts(found, "y") == {"1": 292, "2": 177, "4": 19, "3": 10, "5": 2}
    assert set(table.ragged(found)[1].tolist()) == {140}


def test_long_series_with_marks(mirror: Path) -> None:
    marks = mirror / "sequences/NAB/combined_windows.json"
    for path in sorted((mirror / "sequences/NAB/realKnownCause").glob("*.csv")):
        every = {"ambient_temperature_system_failure": 3600, "nyc_taxi": 1800}.get(path.stem, 300)
        how = {
            "format": "series", "window": 24, "stride": 12, "every": every,
            "marks": {"path": "sequences/NAB/combined_windows.json", "sha256": "0" * 64},
        }  # fmt: skip
        found_in = source(
            f"sequences/NAB/realKnownCause/{path.name}",
            kind="sequence",
            label="y",
            time="timestamp",
            read=how,
        )
        found = read(found_in, mirror, marks)
        assert set(found.column("y").to_pylist()) == {"anomaly", "normal"}
        share = found.column("y").to_pylist().count("anomaly") / found.num_rows
        assert 0.05 < share < 0.2
        most = 0.5 if path.stem == "rogue_agent_key_hold" else 0.05  # it has no regular step
        assert len(problems(found)) < most * found.num_rows, path.name
        times = np.array(found.column(".time").to_pylist())
        assert (np.diff(times) > 0).all()


def test_texts(mirror: Path) -> None:
    how = {"format": "csv", "header": ["class", "title", "description"]}
    found_in = source(
        "text/ag_news_test/test.csv", kind="text", label="class", text=["title", "description"], read=how
    )
    found = read(found_in, mirror)
    assert counts(found, "class") == {str(at): 1900 for at in range(1, 5)}
    assert problems(found) == []
    assert found.column("text").null_count == 0
    assert found.column("text").to_pylist()[1].startswith("The Race is On: Second Private Team")
