"""Sources over files that a test wrote."""

from pathlib import Path

import pyarrow as pa

from latentops.config import File, Source, parse
from latentops.data import readers, table


def source(*files: str | dict[str, object], kind: str = "tabular", **changes: object) -> Source:
    """A source of files by name; their bytes aren't looked at here, so their SHA-256 isn't theirs."""
    listed = [{"path": each} if isinstance(each, str) else each for each in files]
    return parse(
        Source,
        {
            "name": "file",
            "kind": kind,
            "label": None,
            "files": [{"sha256": "0" * 64, **each} for each in listed],
            **changes,
        },
        "source",
    )


def rows(found: Source, folder: Path, marks: Path | None = None) -> table.Rows:
    """Its rows on their way, the files being in `folder`."""
    located: list[tuple[Path, File]] = [(folder / file.path, file) for file in found.files]
    return readers.read(located, found) if marks is None else readers.read(located, found, marks)


def read(found: Source, folder: Path, marks: Path | None = None) -> pa.Table:
    """All of its rows."""
    return rows(found, folder, marks).whole()
