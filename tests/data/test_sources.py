import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from latentops.config import Dataset, Params, load_params
from latentops.data import sources, table
from latentops.errors import DataError, UnknownNameError
from tests.data import people


def sample_columns(raw: pa.Table) -> pa.Table:
    return raw.drop_columns([".source", ".position"])


def test_sizes_and_classes_are_those_of_the_published_sets(raw_tables: dict[str, pa.Table]) -> None:
    assert {name: raw.num_rows for name, raw in raw_tables.items()} == {
        "digits": 1797,
        "breast_cancer": 569,
        "digit_columns": 1797,
    }
    diagnoses = raw_tables["breast_cancer"].column("diagnosis").to_pylist()
    assert (diagnoses.count("malignant"), diagnoses.count("benign")) == (212, 357)
    assert set(raw_tables["digits"].column("digit").to_pylist()) == set("0123456789")


def test_malignant_nuclei_are_the_larger_ones(params: Params, raw_tables: dict[str, pa.Table]) -> None:
    # The label's direction: an anomaly detector on swapped labels would look fine and be useless.
    frame = raw_tables["breast_cancer"].to_pandas()
    size = frame.groupby("diagnosis")["mean radius"].mean()
    assert size["malignant"] > 1.3 * size["benign"]


def test_every_row_says_where_it_is_from(raw: pa.Table) -> None:
    assert set(raw.column(".source").to_pylist()) == {table.EMBEDDED}
    assert raw.column(".position").to_pylist() == list(range(raw.num_rows))


def test_digit_columns_have_ink_at_both_ends_and_reassemble_to_the_digit(
    params: Params, raw_tables: dict[str, pa.Table]
) -> None:
    digits, columns = raw_tables["digits"], raw_tables["digit_columns"]
    images = table.dense(digits, table.layout_of(digits, "digit"))[:, 0]
    lengths = set()
    for image, values in zip(images, columns.column("values").to_pylist(), strict=True):
        steps = np.array(values, dtype=np.float32).reshape(-1, 8)
        assert steps[0].any()
        assert steps[-1].any()
        begin = int(np.flatnonzero(image.any(axis=0))[0])
        rebuilt = np.zeros((8, 8), dtype=np.float32)
        rebuilt[:, begin : begin + len(steps)] = steps.T
        assert np.array_equal(rebuilt, image)
        lengths.add(len(steps))
    assert len(lengths) > 1, "the sequences are ragged"
    assert lengths <= set(range(1, 9))


def test_unknown_source_names_the_nearest(params: Params, tmp_path: Path) -> None:
    source = params.dataset("digits").source.model_copy(update={"name": "digit"})
    with pytest.raises(UnknownNameError, match="did you mean 'digits'"):
        sources.ingest(source, tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "tabular"}, "holds image data"),
        ({"channels": 3}, "has 1 channels"),
        ({"label": "pixels"}, "label"),
    ],
)
def test_a_source_described_wrongly_is_refused(
    params: Params, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        sources.ingest(params.dataset("digits").source.model_copy(update=change), tmp_path)


def test_accepted_files_follow_in_name_order(raw: pa.Table, dataset: Dataset, tmp_path: Path) -> None:
    rows = sample_columns(raw)
    pq.write_table(rows.slice(5, 2), tmp_path / "b.parquet")
    pq.write_table(rows.slice(0, 3), tmp_path / "a.parquet")
    both = sources.ingest(dataset.source, tmp_path).whole()
    added = both.slice(raw.num_rows)
    assert both.slice(0, raw.num_rows).equals(raw)
    assert added.column(".source").to_pylist() == ["a.parquet"] * 3 + ["b.parquet"] * 2
    assert added.column(".position").to_pylist() == [0, 1, 2, 0, 1]
    assert sample_columns(added).equals(pa.concat_tables([rows.slice(0, 3), rows.slice(5, 2)]))


def test_a_pointer_without_its_file_is_not_passed_over(params: Params, tmp_path: Path) -> None:
    (tmp_path / "0123.parquet.dvc").write_text("outs: []")
    with pytest.raises(DataError, match=r"0123\.parquet: not on this machine; .*dvc pull"):
        sources.ingest(params.dataset("digits").source, tmp_path).whole()


def test_a_file_with_other_columns_is_refused_by_name(
    raw: pa.Table, dataset: Dataset, tmp_path: Path
) -> None:
    rows = sample_columns(raw).slice(0, 4)
    path = tmp_path / "new.parquet"
    last = rows.column_names[-1]

    pq.write_table(rows.drop_columns([last]), path)
    with pytest.raises(DataError, match=f"new.parquet: no column '{last}'"):
        sources.read_rows(path, dataset.source)

    pq.write_table(rows.append_column("surprise", pa.array([1, 2, 3, 4])), path)
    with pytest.raises(DataError, match=r"new\.parquet: unknown column 'surprise'"):
        sources.read_rows(path, dataset.source)

    pq.write_table(rows.set_column(rows.num_columns - 1, last, pa.array(["1", "x", "2", "3"])), path)
    with pytest.raises(DataError, match=rf"new\.parquet: column '{last}' is string"):
        sources.read_rows(path, dataset.source)


def test_unreadable_files_are_refused_in_one_line(params: Params, tmp_path: Path) -> None:
    source = params.dataset("digits").source
    broken, text = tmp_path / "broken.parquet", tmp_path / "rows.txt"
    broken.write_text("not parquet")
    text.write_text("?")
    for path, message in (
        (broken, "can't be read"),
        (text, "come as"),
        (tmp_path / "no.parquet", "not found"),
    ):
        with pytest.raises(DataError, match=message) as caught:
            sources.read_rows(path, source)
        assert "\n" not in str(caught.value)
        assert path.name in str(caught.value)


def test_a_table_may_come_as_csv(params: Params, raw_tables: dict[str, pa.Table], tmp_path: Path) -> None:
    source = params.dataset("breast_cancer").source
    rows = sample_columns(raw_tables["breast_cancer"]).slice(0, 20)
    path = tmp_path / "new.csv"
    pa.csv.write_csv(rows.select(rows.column_names[::-1]), path)  # the order of columns plays no part
    read = sources.read_rows(path, source)
    assert sample_columns(read).equals(rows)
    assert set(read.column(".source").to_pylist()) == {"new.csv"}

    lines = path.read_text().splitlines()
    lines[3] = "wide" + lines[3][lines[3].index(",") :]
    path.write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"row 2: column 'worst fractal dimension': 'wide' is not"):
        sources.read_rows(path, source)


def test_accept_names_the_file_by_its_bytes_and_takes_no_row_twice(
    raw: pa.Table, dataset: Dataset, tmp_path: Path
) -> None:
    incoming = tmp_path / "incoming.parquet"
    rows = sample_columns(raw)
    label = rows.column_names.index(dataset.source.label)
    other = [name for name in dataset.expectations.classes for _ in range(4)][:4]
    relabelled = rows.slice(0, 4).set_column(label, dataset.source.label, pa.array(other))
    fresh = [a != b for a, b in zip(other, rows.column(label).to_pylist(), strict=False)]
    pq.write_table(pa.concat_tables([relabelled, relabelled, rows.slice(7, 2)]), incoming)

    folder = tmp_path / "accepted"
    path = sources.accept(folder, sources.read_rows(incoming, dataset.source), dataset.source)
    assert path is not None
    assert path.stem == hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    assert sources.ingest(dataset.source, folder).whole().num_rows == raw.num_rows + sum(fresh)
    assert sources.accept(folder, sources.read_rows(incoming, dataset.source), dataset.source) is None


def test_content_hash_is_of_label_and_values_and_of_nothing_else(raw: pa.Table, dataset: Dataset) -> None:
    layout = table.layout_of(raw, dataset.source.label)
    hashes = table.content_hashes(raw, layout)
    order = np.random.default_rng(0).permutation(raw.num_rows)
    moved = raw.take(pa.array(order)).set_column(0, ".source", pa.array(["elsewhere"] * raw.num_rows))
    assert np.array_equal(table.content_hashes(moved, layout), hashes[order])

    at = raw.column_names.index(layout.label)
    swapped = raw.set_column(at, layout.label, pa.array(["?"] * raw.num_rows))
    assert not (table.content_hashes(swapped, layout) == hashes).all(axis=1).any()


def test_slices_hash_and_read_like_the_whole(raw: pa.Table, dataset: Dataset) -> None:
    layout = table.layout_of(raw, dataset.source.label)
    assert np.array_equal(
        table.content_hashes(raw.slice(100, 7), layout), table.content_hashes(raw, layout)[100:107]
    )


def test_a_table_comes_back_from_its_file_and_the_bytes_are_always_the_same(
    raw: pa.Table, tmp_path: Path
) -> None:
    first, second = tmp_path / "first.parquet", tmp_path / "second.parquet"
    table.write(first, raw)
    back = table.read(first, "ingest@x")
    table.write(second, back)
    assert back.equals(raw)
    assert first.read_bytes() == second.read_bytes()


def test_a_missing_or_foreign_table_names_the_stage_that_makes_it(tmp_path: Path) -> None:
    foreign, other = tmp_path / "foreign.parquet", tmp_path / "other.parquet"
    foreign.write_text("?")
    pq.write_table(pa.table({"a": [1]}), other)
    for path in (tmp_path / "missing.parquet", foreign, other):
        with pytest.raises(DataError, match="dvc repro ingest@digits") as caught:
            table.read(path, "ingest@digits")
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", ["written to", "replaced", "removed", "joined by another"])
def test_a_file_that_changes_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """DVC takes its hash after that, and would believe that these rows are from what it is then."""
    monkeypatch.chdir(tmp_path)
    people.write_csv(people.people(80))
    people.write_params()
    source, accepted = load_params().dataset("people").source, tmp_path / "accepted"
    accepted.mkdir()
    path = Path(source.files[0].path)
    parts = iter(sources.ingest(source, accepted).parts)
    next(parts)
    if change == "written to":
        with path.open("a") as stream:
            stream.write("\n")
    elif change == "replaced":
        path.with_suffix(".new").write_bytes(path.read_bytes())
        path.with_suffix(".new").replace(path)
    elif change == "removed":
        path.unlink()
    else:
        (accepted / "0123.parquet").touch()
    with pytest.raises(DataError, match="changed while it was read; run again once it is whole"):
        list(parts)
