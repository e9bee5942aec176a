"""Plain text: a text a line. Blank lines are no rows."""

from collections.abc import Iterator, Sequence
from itertools import chain, islice

import pyarrow as pa

from latentops.config import Read, Source
from latentops.data.readers import files
from latentops.data.readers.files import Located, Text, assembled, opened, some
from latentops.data.table import Layout, Rows
from latentops.errors import ConfigError


def read(located: Sequence[Located], source: Source, read: Read) -> Rows:
    """The lines of each file, without the blanks around them."""
    if source.label is not None:
        raise ConfigError("format: lines has no labels; set source.label: null")
    layout = Layout("text", (), None, extras=files.extras(source, located))
    parts = (some(file.path, _parts(file, layout, read)) for file in located)
    return Rows(layout, chain.from_iterable(parts))


def _parts(file: Located, layout: Layout, read: Read) -> Iterator[pa.Table]:
    first = 0
    with opened(file.path) as stream:
        lines = (line.strip() for line in Text(file.path, stream, read.encoding).lines())
        texts = filter(None, lines)
        while held := list(islice(texts, layout.part_rows())):
            yield assembled(layout, file, {"text": pa.array(held, pa.string())}, len(held), first)
            first += len(held)
