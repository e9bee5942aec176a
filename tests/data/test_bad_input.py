"""Bad input, case by case: what is said of it, that no row of what can be read is lost, that nothing stays.

A file that is wrong as a whole is refused in one line that names it. Of a row that can't be read, `.problem`
says why, and it keeps its place among the others.
"""

import errno
import gzip
import io
import json
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from latentops import atomic
from latentops.config import Source
from latentops.data import table
from latentops.errors import DataError
from tests.data.readers.made import rows, source

PAGE = b"<!DOCTYPE html>\n<html><body>404 Not Found</body></html>\n"
Files = Mapping[str, bytes]
Problems = Sequence[str | None]
CASES: list[Any] = []


def case(name: str, files: Files, found: Source, says: str | Problems, **columns: list[object]) -> None:
    """A case: `says` is the error, or what each row's problem has in it; `columns` have these values."""
    CASES.append(pytest.param(files, found, says, columns, id=name.replace(" ", "-")))


# ---- delimited text ----------------------------------------------------------------------------------------

TYPES = {"n": "numeric", "c": "categorical"}


def csv(read: Mapping[str, object] | None = None, **changes: object) -> Source:
    return source("a.csv", **{"read": {"format": "csv", **(read or {})}, "columns": TYPES, **changes})


def text(value: str, encoding: str = "utf-8", name: str = "a.csv") -> Files:
    return {name: value.encode(encoding)}


def delimited() -> None:
    case("an empty file", text(""), csv(), r"a\.csv: empty")
    case("blank lines alone", text("\n\n \n"), csv(), "no column 'n'|no name")
    case("a header alone", text("n,c\n"), csv(), r"a\.csv: no rows")
    case("one row", text("n,c\n1,a\n"), csv(), [None], n=[1], c=["a"])
    case("one row without a line end", text("n,c\n1,a"), csv(), [None], n=[1])
    case("a web page", {"a.csv": PAGE}, csv(), "a web page, not data; the download failed")
    case("duplicate headers", text("n,c,n\n1,a,2\n"), csv(), "more than one column 'n'")
    case("a header without a name", text("n,,c\n1,a,2\n"), csv(), "column 2 has no name")
    case("a column that isn't there", text("n,d\n1,a\n"), csv(), r"no column 'c' \(.*known: n, d\)")
    case("a column too many", text("n,c,nn\n1,a,2\n"), csv(), r"unknown column 'nn' \(did you mean 'n'\?")
    case("no header", text("1,a\n2,b\n"), csv(), r"no column 'n' .*known: 1, a")
    case(
        "too few and too many cells",
        text("n,c\n1,a\n2\n3,b,c\n4,d\n"),
        csv(),
        [None, "1 cells, expected 2", "3 cells, expected 2", None],
        n=[1, None, None, 4],
        c=["a", None, None, "d"],
    )
    case("every row of too few cells", text("n,c\n1\n2\n"), csv(), ["1 cells, expected 2"] * 2)
    case("another delimiter", text("n;c\n1;a\n"), csv(), r"no column 'n' .*'n;c'|no column 'n' .*n;c")
    case("a quote never closed", text('n,c\n1,a\n2,"b\n3,c\n'), csv(), "row 1: a quote is never closed")
    case("a quote within a cell", text('n,c\n1,5" pipe\n'), csv(), [None], c=['5" pipe'])
    case("a new line within quotes", text('n,c\n1,"a\nb"\n2,c\n'), csv(), [None, None], c=["a\nb", "c"])
    case("a NUL byte", text("n,c\n1,a\n2,b\0\n"), csv(), "line 3: a NUL byte")
    case("utf-16 read as utf-8", text("n,c\n1,a\n", "utf-16"), csv(), "byte 0: 0xff is not utf-8")
    case("utf-16 without a mark", text("n,c\n1,a\n", "utf-16-le"), csv(), "line 1: a NUL byte; .*utf-16")
    case("latin-1 read as utf-8", text("n,c\n1,ä\n", "latin-1"), csv(), "line 2, byte 6: 0xe4 is not utf-8")
    case(
        "utf-8 read as utf-16",
        text("n,c\n1,a\n\n"),
        csv({"encoding": "utf-16-le"}),
        "is not utf-16-le; say its encoding|no column 'n'|not utf-16-le",
    )
    case("no such encoding", text("n,c\n"), csv({"encoding": "utf-99"}), "no encoding is called 'utf-99'")
    case("a byte order mark", text("\ufeffn,c\n1,a\n"), csv(), [None], n=[1])
    case("windows line ends", text("n,c\r\n1,a\r\n"), csv(), [None], c=["a"])
    case(
        "text among numbers",
        text("n,c\n1,a\nmany,b\n"),
        csv(),
        [None, "column 'n': 'many' is not a number"],
        n=[1, None],
        c=["a", "b"],
    )
    case("numbers as text", text('n,c\n"1",7\n" 2.5 ",8\n'), csv(), [None, None], n=[1, 2.5], c=["7", "8"])
    case("a number with its unit", text("n,c\n5 kg,a\n$3,b\n7%,c\n"), csv(), ["'5 kg'", "'$3'", "'7%'"])
    case("a decimal comma", text('n,c\n"1,5",a\n'), csv(), ["'1,5' is not a number"])
    case(
        "thousands under a decimal comma",
        text("n;c\n1.234;a\n1,5;b\n"),
        csv({"delimiter": ";", "decimal": ","}),
        ["is not a number", None],
        n=[None, 1.5],
    )
    case(
        "huge whole numbers",
        text("n,c\n9007199254740992,a\n9007199254740993,b\n-12345678901234567890,c\n"),
        csv(),
        [None, "too large a number to be kept exactly", "too large"],
        n=[2.0**53, None, None],
    )
    case("a number of 5,000 digits", text(f"n,c\n{'9' * 5000},a\n1,b\n"), csv(), ["too large", None])
    case("more than float64 holds", text("n,c\n1e999,a\n"), csv(), [None], n=[float("inf")])
    case("infinite values", text("n,c\ninf,a\n-Infinity,b\n"), csv(), [None] * 2, n=[np.inf, -np.inf])
    case("NaN, empty and blank", text("n,c\nNaN,\n,  \n  ,x\n"), csv(), [None] * 3, n=[None] * 3)
    case("all missing", text("n,c\n,\n,\n"), csv(), [None] * 2, n=[None] * 2, c=[None] * 2)
    case("a sentinel that isn't declared", text("n,c\n?,?\n"), csv(), ["'?' is not a number"], c=["?"])
    case("a declared sentinel", text("n,c\n ? , ?\n"), csv({"missing": ["?"]}), [None], n=[None], c=[None])
    case("hexadecimals and underscores", text("n,c\n0x10,a\n1_000,b\n"), csv(), ["'0x10'", "'1_000'"])
    case("digits of other scripts", text("n,c\n١٢,a\n"), csv(), ["'١٢' is not a number"])
    case("a very long cell", text(f"n,c\n{'x' * 9999},a\n"), csv(), ["'" + "x" * 40 + "…' is not a number"])
    case("one class", text("n,c,y\n1,a,k\n2,b,k\n"), csv(label="y"), [None] * 2, y=["k", "k"])
    case("a label missing in part", text("n,c,y\n1,a,k\n2,b,\n"), csv(label="y"), [None] * 2, y=["k", None])
    case("a label column that isn't there", text("n,c\n1,a\n"), csv(label="y"), "no column 'y'")
    case(
        "neither true nor false",
        text("b\ntrue\nmaybe\n2\n0\n"),
        csv(columns={"b": "boolean"}),
        [None, "'maybe' is neither true nor false", "'2' is neither", None],
        b=["true", None, None, "false"],
    )
    case(
        "dates that aren't",
        text("d\n2024-02-29\n2023-02-29\n1/2/2024\nsoon\n"),
        csv(columns={"d": "date"}),
        [None, "'2023-02-29' is not a date in ISO 8601", "'1/2/2024' is not a date", "'soon'"],
        d=[1709164800.0, None, None, None],
    )
    case(
        "a time that isn't one",
        text("n,c,t\n1,a,2024-01-01\n2,b,later\n"),
        csv(time="t"),
        [None, "column 't': 'later' is not a date"],
        n=[1, 2],
    )
    case(
        "a part that isn't one",
        text("n,c,p\n1,a,train\n2,b,dev\n"),
        csv({"part": "p"}),
        [None, "column 'p': 'dev' is neither train nor test"],
    )
    case(
        "two cells of a row",
        text("n,m\nx,y\n"),
        csv(columns={"n": "numeric", "m": "numeric"}),
        ["column 'n': 'x' is not a number; column 'm': 'y' is not a number"],
    )
    packed = gzip.compress(("n,c\n" + "1,a\n" * 5000).encode())
    zipped = source("a.csv.gz", read={"format": "csv"}, columns=TYPES)
    case("a truncated gzip", {"a.csv.gz": packed[:-20]}, zipped, "the gzip file ends too early or is damaged")
    case("a gzip that isn't one", {"a.csv.gz": PAGE}, zipped, "not a gzip file; get it again")
    wrong = bytes(byte ^ 255 if at == len(packed) // 2 else byte for at, byte in enumerate(packed))
    case("a damaged gzip", {"a.csv.gz": wrong}, zipped, "gzip file")
    case("no such file", {}, csv(), r"a\.csv: not found")
    case("a folder for a file", {"a.csv/b.csv": b"n,c\n"}, csv(), "a folder, where a file is expected")


# ---- text, Parquet, arrays ---------------------------------------------------------------------------------


def parquet(**columns: object) -> Files:
    written = io.BytesIO()
    pq.write_table(pa.table(columns), written)
    return {"a.parquet": written.getvalue()}


def stored(**changes: object) -> Source:
    return source("a.parquet", **{"read": {"format": "parquet"}, "columns": {"n": "numeric"}, **changes})


def saved(**arrays: object) -> Files:
    written = io.BytesIO()
    np.savez(written, **arrays)
    return {"a.npz": written.getvalue()}


def npy(values: np.ndarray) -> Files:
    written = io.BytesIO()
    np.save(written, values, allow_pickle=True)
    return {"a.npy": written.getvalue()}


def array(name: str = "a.npz", kind: str = "tabular", **changes: object) -> Source:
    limits = {"value_range": [0, 255]} if kind == "image" else {}
    label = None if name.endswith("npy") else "y"
    return source(name, kind=kind, **{"label": label, "read": {"format": "array"}, **limits, **changes})


def columnar() -> None:
    lines = source("a.txt", kind="text", read={"format": "lines"})
    case("a text file of blank lines", text("\n \n", name="a.txt"), lines, "no rows")
    case("a web page for text", {"a.txt": PAGE}, lines, "a web page, not data")
    texts = source("a.csv", kind="text", read={"format": "csv"}, text=["s", "t"])
    case("a text of empty parts", text("s,t\n,\na,\n"), texts, [None, None], text=[None, "a"])
    case("a web page for Parquet", {"a.parquet": PAGE}, stored(), "not a Parquet file .*get it again")
    case(
        "a truncated Parquet", {"a.parquet": parquet(n=[1])["a.parquet"][:-9]}, stored(), "not a Parquet file"
    )
    case("a Parquet of no rows", parquet(n=pa.array([], pa.int64())), stored(), "no rows")
    case("a Parquet of lists", parquet(n=[[1]]), stored(), "column 'n' is list<.*its use can't be")
    case("a Parquet's huge numbers", parquet(n=[1, 2**60 + 1]), stored(), [None, "too large"], n=[1, None])
    case("a Parquet's text", parquet(n=["1", "one"]), stored(), [None, "'one' is not a number"], n=[1, None])
    pictures = stored(kind="image", value_range=[0, 255], columns={})
    case(
        "images of different sizes in Parquet",
        parquet(pixels=[[[1, 2]], [[1, 2, 3]], [[4, 5]]]),
        pictures,
        [None, "3 values, expected 2", None],
        pixels=[[1, 2], None, [4, 5]],
    )
    case("a pickled array", npy(np.array([{}, 1], dtype=object)), array("a.npy"), "holds pickled objects")
    case("a pickled npz", saved(X=np.array([[{}]], dtype=object), y=[1]), array(), "holds pickled objects")
    case("a bare pickle", {"a.npy": b"\x80\x04N."}, array("a.npy"), "holds pickled objects")
    case("a web page for an array", {"a.npy": PAGE}, array("a.npy"), "not a NumPy file, or damaged")
    case("a truncated array", {"a.npy": npy(np.ones((9, 9)))["a.npy"][:-9]}, array("a.npy"), "or damaged")
    case("an empty array file", {"a.npy": b""}, array("a.npy"), "not a NumPy file, or damaged")
    case("an empty array", npy(np.ones((0, 3))), array("a.npy"), "no rows")
    case("complex numbers", npy(np.ones((2, 2), complex)), array("a.npy"), "complex128, not real numbers")
    case("labels of another number", saved(X=np.ones((3, 1)), y=np.ones(2)), array(), "a label a row")
    case("no such array", saved(Z=np.ones((3, 1)), y=np.ones(3)), array(), "no array 'X'")
    case("an image as a table", npy(np.ones((2, 3, 3))), array("a.npy"), "doesn't hold rows of kind: tabular")
    case(
        "infinite and missing in an array",
        npy(np.array([[1.0], [np.nan], [np.inf]])),
        array("a.npy"),
        [None] * 3,
        x0=[1, None, np.inf],
    )


def idx(values: np.ndarray, magic: bytes = b"\0\0\x08") -> bytes:
    return magic + bytes([values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


def binary() -> None:
    images, labels = idx(np.zeros((3, 2, 2), np.uint8)), idx(np.zeros(3, np.uint8))
    pair = source("i.gz", "l", kind="image", label="y", value_range=[0, 255], read={"format": "idx"})

    def pairs(one: bytes, two: bytes = labels) -> Files:
        return {"i.gz": one, "l": two}

    packed = gzip.compress(images)
    case("a truncated idx.gz", pairs(packed[:-9]), pair, r"i\.gz: the gzip file ends too early")
    case("a web page for idx.gz", pairs(PAGE), pair, r"i\.gz: not a gzip file")
    case(
        "a wrong magic number",
        pairs(gzip.compress(b"\1" + images[1:])),
        pair,
        r"begins with b'.x01.*no idx file",
    )
    case("an idx too short", pairs(gzip.compress(images[:-1])), pair, "ends after 2 of 3 rows")
    case("an idx too long", pairs(gzip.compress(images + b"?")), pair, "goes on after its 3 rows")
    case("labels for images", pairs(gzip.compress(labels)), pair, "where images are expected; list files as")
    case("images for labels", pairs(packed, images), pair, "where 3 labels are expected")
    case("labels too few", pairs(packed, idx(np.zeros(2, np.uint8))), pair, "where 3 labels are expected")
    cifar = source("a.bin", kind="image", channels=3, value_range=[0, 255], read={"format": "cifar"})
    case("a CIFAR file cut short", {"a.bin": bytes(3072)}, cifar, "3072 bytes are no whole number of records")
    case("an empty CIFAR file", {"a.bin": b""}, cifar, "no rows")


# ---- pictures ----------------------------------------------------------------------------------------------


def picture(made: Image.Image, form: str = "png", cut: int = 0, **how: object) -> bytes:
    written = io.BytesIO()
    made.save(written, form, **how)
    whole = written.getvalue()
    return whole[: len(whole) - cut]


def folder(**changes: object) -> Source:
    how = {"format": "images", "size": [2, 2]}
    return source("f", **{"kind": "image", "value_range": [0, 255], "read": how, **changes})


def pictures() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60), np.uint8))
    good = picture(noise)
    damaged = "the picture is damaged"
    case(
        "images of different sizes",
        {"f/a.png": good, "f/b.png": picture(noise.resize((9, 5)))},
        folder(),
        [None] * 2,
    )
    case(
        "a truncated jpeg",
        {"f/a.jpg": picture(noise, "jpeg", 400), "f/b.png": good},
        folder(),
        [damaged, None],
    )
    case("a truncated png", {"f/a.png": picture(noise, cut=400)}, folder(), [damaged])
    case("a web page for a picture", {"f/a.png": PAGE, "f/b.png": good}, folder(), ["not a picture", None])
    case("an empty picture", {"f/a.png": b""}, folder(), ["not a picture"])
    deep = Image.fromarray(np.full((4, 4), 100 * 257, np.uint16))
    case("a 16-bit picture", {"f/a.png": picture(deep)}, folder(), [None], pixels=[[100] * 4])
    cmyk = picture(Image.new("CMYK", (8, 8), (0, 0, 0, 255)), "jpeg")
    case("a CMYK jpeg", {"f/a.jpg": cmyk}, folder(), [None], pixels=[[0] * 4])
    clear = picture(Image.new("RGBA", (4, 4), (255, 255, 255, 0)))
    case("a transparent picture", {"f/a.png": clear}, folder(), [None], pixels=[[0] * 4])
    real = picture(Image.fromarray(np.zeros((4, 4), np.float32)), "tiff")
    case("a picture of real numbers", {"f/a.tif": real}, folder(), ["real numbers"])
    bomb = bytearray(picture(Image.new("1", (8, 8))))
    bomb[16:24] = struct.pack(">II", 60000, 60000)
    bomb[29:33] = struct.pack(">I", zlib.crc32(bomb[12:29]))
    case(
        "a decompression bomb",
        {"f/a.png": bytes(bomb), "f/b.png": good},
        folder(),
        ["more than 89478485 pixels", None],
    )
    case(
        "other files among pictures",
        {"f/a.png": good, "f/b.txt": b"?"},
        folder(),
        r"1 files are no pictures \(b\.txt\)",
    )
    case("a folder of nothing", {"f/.hidden": b""}, folder(), "no files in it")
    case("no such folder", {}, folder(), "f: not found; a folder of files is expected")
    case("a file for a folder", {"f": good}, folder(), "f: not a folder")
    case("no classes", {"f/a.png": good}, folder(label="y"), "no subfolder of a class")


# ---- sequences ---------------------------------------------------------------------------------------------

HEAD = "@problemName x\n@univariate true\n@classLabel true a b\n@data\n"


def ts(**changes: object) -> Source:
    return source("a.ts", **{"kind": "sequence", "label": "y", "read": {"format": "ts"}, **changes})


def archive(lines: str, head: str = HEAD) -> Files:
    return text(head + lines, name="a.ts")


def long(**changes: object) -> Source:
    return source(
        "a.csv", **{"kind": "sequence", "time": "t", "read": {"format": "long", "id": "i"}, **changes}
    )


def series(**changes: object) -> Source:
    how = {"format": "series", "window": 2, "stride": 2, "every": 1}
    return source("a.csv", **{"kind": "sequence", "time": "t", "read": how, **changes})


def sequences() -> None:
    case("a ts without data", archive("", "@problemName x\n"), ts(), "no line @data; is it a .ts file")
    case("a ts without rows", archive(""), ts(), "no sequences")
    case("a web page for ts", {"a.ts": PAGE}, ts(), "a web page, not data")
    case("a ts of other dimensions", archive("1:2:a\n1:a\n"), ts(), ["2 dimensions, expected 1", None])
    case(
        "a ts with time stamps",
        archive("1:a", "@timeStamps true\n" + HEAD),
        ts(),
        "write them as format: long",
    )
    case("a ts of text", archive("1,b:a\n"), ts(), ["step 1: 'b' is not a number"])
    case("a ts of missing values", archive("1,?:a\n"), ts(), ["missing at 1 of 2 steps"])
    case("a ts of an unknown class", archive("1:c\n"), ts(), ["class 'c' is not one"], y=["c"])
    case("an empty sequence", archive(":a\n1:b\n"), ts(), ["no steps", None], values=[[], [1]])
    case("a one-step sequence", archive("1:a\n"), ts(), [None], values=[[1]])
    two = HEAD.replace("@univariate true", "@dimensions 2")
    case("uneven dimensions", archive("1,2:3:a\n", two), ts(channels=2), ["dimensions of 2, 1 steps"])
    case("other channels", archive("1:a\n"), ts(channels=2), "1 dimensions, but source.channels says 2")
    case(
        "non-increasing time",
        text("i,t,v\na,1,1\na,1,2\nb,2,3\nb,1,4\nc,1,5\n"),
        long(),
        ["time doesn't rise at row 1", "time doesn't rise at row 3", None],
        values=[[1, 2], [3, 4], [5]],
    )
    case("a step of no sequence", text("i,t,v\na,1,1\n,2,2\n"), long(), [None, "row 1: no i"])
    case("a ragged step", text("i,t,v\na,1,1\na,2\na,3,3\n"), long(), [None, "row 1: 2 cells, expected 3"])
    case(
        "labels that change",
        text("i,t,v,y\na,1,1,k\na,2,2,l\n"),
        long(label="y"),
        ["its label changes"],
        y=[None],
    )
    case("no steps at all", text("i,t,v\n"), long(), "no sequences")
    case("two channels for one", text("i,t,v,w\na,1,1,1\n"), long(), r"2 columns of values \(v, w\)")
    case(
        "a series too short", text("t,v\n0,1\n"), series(), ["1 steps, fewer than a window's 2"], values=[[1]]
    )
    case(
        "a series that goes back",
        text("t,v\n0,1\n2,2\n1,3\n3,4\n"),
        series(),
        ["row 2: time goes back", None],
    )
    case("a series of text", text("t,v\n0,1\n1,x\n2,3\n3,4\n"), series(), ["'x' is not a number", None])
    case("a series without times", text("t,v\nnow,1\n"), series(), "none of its rows has a time")
    case(
        "a series of a gap",
        text("t,v\n0,1\n1,2\n9,3\n10,4\n"),
        series(),
        [None, "a gap of 1 steps", None],
    )
    marked = {
        "format": "series",
        "window": 2,
        "stride": 2,
        "every": 1,
        "marks": {"path": "m", "sha256": "0" * 64},
    }
    case(
        "marks of another series",
        {**text("t,v\n0,1\n"), "marks.json": json.dumps({"b.csv": []}).encode()},
        series(label="y", read=marked),
        r"says nothing of it \(.*known: b\.csv",
    )
    case(
        "marks that aren't",
        {**text("t,v\n0,1\n"), "marks.json": PAGE},
        series(label="y", read=marked),
        "not marks, ",
    )


for each in (delimited, columnar, binary, pictures, sequences):
    each()


def everything(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@pytest.fixture
def ingest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Files, Source], table.Stored]:
    """From files to a raw table, as the stage makes it; the files stay as they are."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    for name in ("in", "out", "temporary"):
        (tmp_path / name).mkdir()

    def run(files: Files, found: Source) -> table.Stored:
        for name, content in files.items():
            path = tmp_path / "in" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        marks = tmp_path / "in/marks.json"
        try:
            read = rows(found, tmp_path / "in", marks if "marks.json" in files else None)
            table.write_parts(tmp_path / "out/raw.parquet", read.parts, read.layout.schema())
        finally:
            assert everything(tmp_path / "in") == dict(files)
            assert not list((tmp_path / "temporary").iterdir())
        return table.Stored(tmp_path / "out/raw.parquet", "ingest@x")

    return run


def test_there_are_enough_cases() -> None:
    assert len({each.id for each in CASES}) == len(CASES) >= 60


@pytest.mark.parametrize(("files", "found", "says", "columns"), CASES)
def test_bad_input(
    ingest: Callable[[Files, Source], table.Stored],
    tmp_path: Path,
    files: Files,
    found: Source,
    says: str | Problems,
    columns: dict[str, list[object]],
) -> None:
    if isinstance(says, str):
        with pytest.raises(DataError, match=says) as caught:
            ingest(files, found)
        assert "\n" not in str(caught.value)
        assert str(tmp_path / "in") in str(caught.value), "the file is named"
        assert not list((tmp_path / "out").iterdir()), "nothing is left behind"
        return
    read = ingest(files, found).read()
    problems = read.column(".problem").to_pylist()
    assert len(problems) == len(says), "rows in = rows out"
    for problem, expected in zip(problems, says, strict=True):
        assert (problem is None) == (expected is None), problems
        assert expected is None or expected in problem
    assert read.column(".position").to_pylist() == list(range(len(says)))
    for name, values in columns.items():
        assert read.column(name).to_pylist() == values
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["raw.parquet"]


def test_a_disk_that_fills_leaves_the_old_table_as_it_was(
    ingest: Callable[[Files, Source], table.Stored], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = ingest(text("n,c\n1,a\n"), csv()).read()

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    with pytest.raises(OSError, match="No space left on device"):
        ingest(text("n,c\n2,b\n3,c\n"), csv())
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["raw.parquet"]
    assert table.read(tmp_path / "out/raw.parquet", "ingest@x").equals(old)


def test_a_disk_that_fills_at_the_rename_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.json"
    atomic.write_json(path, {"old": 1})

    def full(self: Path, target: Path) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        atomic.write_json(path, {"new": 1})
    assert [each.name for each in tmp_path.iterdir()] == ["a.json"]
    assert json.loads(path.read_text()) == {"old": 1}


# ---- what nobody thought of --------------------------------------------------------------------------------

_NOISE = Image.fromarray(np.random.default_rng(1).integers(0, 256, (9, 9), np.uint8))
_SEQUENCE = source("a.parquet", kind="sequence", read={"format": "parquet"})
WHOLE: dict[str, tuple[Files, Source]] = {
    "csv": (text('n,c\n1,a\n2,"b,\n""c"\n'), csv()),
    "utf-16": (text("n,c\n1,a\n2,b\n", "utf-16"), csv({"encoding": "utf-16"})),
    "gzip": (
        {"a.csv.gz": gzip.compress(b"n,c\n1,a\n2,b\n")},
        source("a.csv.gz", read={"format": "csv"}, columns=TYPES),
    ),
    "parquet": (parquet(n=[1.5, 2.5]), stored()),
    "lists": (parquet(values=[[1.0], [2.0, 3.0]]), _SEQUENCE),
    "npy": (npy(np.ones((3, 2))), array("a.npy")),
    "npz": (saved(X=np.ones((3, 2)), y=np.array(["a", "b", "c"])), array()),
    "idx": (
        {"i": idx(np.zeros((3, 2, 2), np.uint8)), "l": idx(np.zeros(3, np.uint8))},
        source("i", "l", kind="image", label="y", value_range=[0, 255], read={"format": "idx"}),
    ),
    "cifar": (
        {"a.bin": bytes(3073)},
        source("a.bin", kind="image", channels=3, value_range=[0, 255], read={"format": "cifar"}),
    ),
    "png": ({"f/a.png": picture(_NOISE)}, folder()),
    "jpeg": ({"f/a.jpg": picture(_NOISE, "jpeg")}, folder()),
    "ts": (archive("1,2:a\n3:b\n"), ts()),
    "long": (text("i,t,v\na,1,1\nb,1,2\na,2,3\n"), long()),
    "folder": (text("v\n1\n2\n", name="f/a.csv"), source("f", kind="sequence", read={"format": "folder"})),
    "series": (text("t,v\n0,1\n1,2\n2,3\n"), series()),
    "lines": (text("one\ntwo\n", name="a.txt"), source("a.txt", kind="text", read={"format": "lines"})),
}


@pytest.mark.parametrize("name", WHOLE)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_file_damaged_anyhow_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject
) -> None:
    files, found = WHOLE[name]
    inside = tmp_path_factory.mktemp("damaged")
    for path, content in files.items():
        at = data.draw(st.integers(0, len(content)))
        until = data.draw(st.sampled_from([at, at + 1, len(content)]))
        damaged = content[:at] + data.draw(st.binary(max_size=4)) + content[until:]
        (inside / path).parent.mkdir(exist_ok=True)
        (inside / path).write_bytes(damaged)
    said, read = None, None
    try:
        read = rows(found, inside).whole()
    except DataError as error:
        said = str(error)
    if read is None:
        assert said is not None
        assert "\n" not in said
        assert str(inside) in said
        return
    assert read.num_rows > 0
    assert read.column(".position").to_pylist() == list(range(read.num_rows))
