"""Holds a raw table, in memory or in a file, to what is expected of it."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from latentops.config import Expectations, Source
from latentops.data import table as tables
from latentops.data.expectations.sifting import Found, Limits, sift, with_reasons
from latentops.data.profile import Profile
from latentops.data.table import Stored


@dataclass(frozen=True)
class Validated(Found):
    """Rows that are as expected, and rows that aren't (with a column `.reasons`), beside what was found."""

    clean: pa.Table
    quarantined: pa.Table


def validate(
    table: pa.Table,
    dataset: str,
    source: Source,
    expectations: Expectations,
    *,
    limits: Limits = "dataset",
    accepted: Profile | None = None,
    docs: Path | None = None,
) -> Validated:
    """Hold a raw `table` of `dataset` to what is expected; set the rows aside that fall short.

    With `limits="rows"` the limits of whole datasets (all that are not about single rows) are passed over, as
    fits a file of a few new rows; with `limits="samples"` the label is, too. `accepted` is the profile that
    columns may not have moved far from. `docs` is the folder that gets the data docs (HTML), also where
    validation fails.

    Raises `DataError` that names the column, how many rows it is about and the first of them, where a
    column is missing or of a wrong type, or a limit of the dataset is broken.
    """
    parts: tuple[list[pa.Table], list[pa.Table]] = ([], [])

    def keep(clean: pa.Table, quarantined: pa.Table) -> None:
        parts[0].append(clean)
        parts[1].append(quarantined)

    found = sift(
        table.schema,
        [table],
        keep,
        dataset,
        source,
        expectations,
        limits=limits,
        accepted=accepted,
        docs=docs,
    )
    clean, quarantined = (
        pa.concat_tables([schema.empty_table(), *each]).combine_chunks()
        for schema, each in zip((table.schema, with_reasons(table.schema)), parts, strict=True)
    )
    return Validated(found.summary, found.profile, clean, quarantined)


def validate_stored(
    stored: Stored,
    dataset: str,
    source: Source,
    expectations: Expectations,
    *,
    clean: Path,
    quarantined: Path,
    accepted: Profile | None = None,
    docs: Path | None = None,
) -> Found:
    """As `validate`, of a table in a file, into the files `clean` and `quarantined`, a part at a time.

    Where it raises neither file is touched.
    """
    reasons = with_reasons(stored.schema)
    with tables.writing(clean, stored.schema) as good, tables.writing(quarantined, reasons) as bad:

        def keep(*parts: pa.Table) -> None:
            for writer, part in zip((good, bad), parts, strict=True):
                if part.num_rows:
                    writer.write_table(part, row_group_size=part.num_rows)

        return sift(
            stored.schema, stored.parts(), keep, dataset, source, expectations, accepted=accepted, docs=docs
        )
