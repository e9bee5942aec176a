"""`data/incoming/<dataset>/`: which of its files are new, and what is in them. Files stay where they are."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from latentops.config import Dataset
from latentops.data import forgotten, sources, table
from pipelines.decisions import SETTLED

INCOMING = Path("data/incoming")
ACCEPTED = Path("data/accepted")
SET_ASIDE = Path("var/retrain")  # bad rows of incoming files, with the reasons


@dataclass(frozen=True)
class Incoming:
    """A file as it lay in `data/incoming`: its path, and the SHA-256 it is known by."""

    path: Path
    sha256: str

    def unchanged(self) -> bool:
        """Whether it is there as it was."""
        return self.path.is_file() and _sha256(self.path) == self.sha256


@dataclass(frozen=True)
class Rows:
    """What a file brought: rows in it, those as expected (and a table of them), and why others are not.

    Of the `clean` ones those that weren't known already are `fresh`.
    """

    file: Incoming
    clean: pa.Table
    fresh: pa.Table
    bad: int
    reasons: Mapping[str, int]


def new_files(dataset: str, kind: str, past: Iterable[Mapping[str, Any]]) -> list[Incoming]:
    """Files in `data/incoming/<dataset>` that no settled decision of `past` names, by name.

    Half-written ones (`*.part`, hidden files) are left alone, and of two with the same bytes one is enough.
    """
    seen = {file["sha256"] for entry in past if entry["decision"] in SETTLED for file in entry["files"]}
    suffixes = {".parquet", ".csv"} if kind in ("tabular", "text") else {".parquet"}
    found = []
    folder = INCOMING / dataset
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.suffix in suffixes and path.is_file() and not path.name.startswith("."):
            sha256 = _sha256(path)
            if sha256 not in seen:
                seen.add(sha256)
                found.append(Incoming(path, sha256))
    return found


def examine(file: Incoming, dataset: str, settings: Dataset, earlier: Sequence[pa.Table] = ()) -> Rows:
    """Read and validate `file`: row by row, and together with all rows there are and the `earlier` new ones.

    Bad rows go to `var/retrain/<dataset>/<file>.rejected.parquet` with their reasons. Raises `DataError`
    where the file can't be read, its columns are wrong, or the dataset with it would break a limit (and so
    stop the pipeline).
    """
    from latentops.data.expectations.acceptance import accepted
    from latentops.data.expectations.validation import validate

    read = sources.read_rows(file.path, settings.source)
    layout = table.layout_of(read, settings.source.label)
    (new,) = forgotten.without([read], layout, forgotten.read(ACCEPTED / dataset))
    rows = validate(new, dataset, settings.source, settings.expectations, limits="rows")
    present = sources.ingest(settings.source, ACCEPTED / dataset).whole()
    together = pa.concat_tables([present, *earlier, new])
    validate(together, dataset, settings.source, settings.expectations, accepted=accepted(dataset))
    if rows.quarantined.num_rows:
        table.write(SET_ASIDE / dataset / f"{file.path.stem}.rejected.parquet", rows.quarantined)
    fresh = sources.unknown(ACCEPTED / dataset, rows.clean, settings.source)
    return Rows(file, rows.clean, fresh, rows.quarantined.num_rows, rows.summary["reasons"])


def summary(found: Iterable[Rows]) -> dict[str, Any]:
    """The fields of a decision that say which files it is about and what was in them."""
    found = list(found)
    clean, bad = sum(each.clean.num_rows for each in found), sum(each.bad for each in found)
    fresh = sum(each.fresh.num_rows for each in found)
    reasons: Counter[str] = Counter()
    for each in found:
        reasons.update(each.reasons)
    return {
        "files": tuple(named(each.file) for each in found),
        "rows": {"new": clean + bad, "clean": clean, "known": clean - fresh, "bad": bad},
        "bad_reasons": dict(reasons),
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def named(file: Incoming) -> dict[str, str]:
    """How the ledger names a file."""
    return {"name": file.path.name, "sha256": file.sha256}
