"""Suite `columns`: every column is there, of its type. A broken table stops here."""

import pandas as pd
import pyarrow as pa
from great_expectations import expectations as gxe

from latentops.data.expectations.checks import Check
from latentops.data.expectations.judge import Judge
from latentops.data.table import Layout
from latentops.errors import DataError


def check_columns(judge: Judge, dataset: str, schema: pa.Schema, layout: Layout) -> None:
    """Raise `DataError` with the columns of `schema` that are missing, of a wrong type or not known."""
    same = gxe.ExpectColumnPairValuesToBeEqual(column_A="found", column_B="wanted")
    check = Check(same, None, "wrong columns")
    if not judge.run("columns", _column_frame(schema, layout), [check])[0].success:
        raise DataError(f"{dataset}: {_wrong_columns(schema, layout)}")


def _column_frame(schema: pa.Schema, layout: Layout) -> pd.DataFrame:
    """One line a column that is there or should be: its name, its type, and the type wanted."""
    wanted = {field.name: _type_name(field.type) for field in layout.schema()}
    found = {field.name: _type_name(field.type) for field in schema}
    names = [*wanted, *(name for name in found if name not in wanted)]
    return pd.DataFrame(
        {
            "column": names,
            "found": [found.get(name, "(missing)") for name in names],
            "wanted": [wanted.get(name, "(no such column)") for name in names],
        }
    )


def _type_name(of: pa.DataType) -> str:
    """The type in words that leave out how a file names a list's items."""
    if pa.types.is_fixed_size_list(of):
        return f"{of.list_size} × {of.value_type}"
    return f"list of {of.value_type}" if pa.types.is_list(of) else str(of)


def _wrong_columns(schema: pa.Schema, layout: Layout) -> str:
    frame = _column_frame(schema, layout)
    wrong = frame[frame["found"] != frame["wanted"]]
    problems = [
        f"column {line.column!r} is {line.found}, expected {line.wanted}" for line in wrong.itertuples()
    ]
    return f"{len(problems)} of {len(frame)} columns are wrong: {'; '.join(problems)}"
