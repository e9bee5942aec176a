"""The data sets that there are, as a table, and one of them whole."""

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.filesize import decimal
from rich.padding import Padding
from rich.table import Table

from latentops.config import Dataset, Source
from latentops.data import catalogue, fetch
from latentops.data.catalogue import UNPUBLISHED, Entry

_WIDTH = 80  # of what isn't written to a terminal
_SHARED = ("adbench_", "nab/")


def print_all(own: Mapping[str, Dataset]) -> None:
    """Print all sets, of params.yaml (`own`) and of the catalogue, by kind and by how their names begin."""
    known = catalogue.entries()
    groups: dict[str, list[tuple[str, ...]]] = {}
    listed = [
        (name, each.source, catalogue.entry_of(each.source), "params.yaml") for name, each in own.items()
    ]
    same = {name for name, _, entry, _ in listed if entry is known.get(name)}
    listed += [(name, entry.source, entry, "") for name, entry in known.items() if name not in same]
    for name, source, entry, place in listed:
        shared = next((each for each in _SHARED if name.startswith(each)), None)
        group = f"{source.kind}: {shared}*" if shared else source.kind
        facts = (_rows(name, entry), _size(source, entry), entry.licence if entry else "")
        groups.setdefault(group, []).append((name, *facts, catalogue.at_hand(source), place))
    console = _console()
    for group in sorted(groups):
        table = Table(title=group, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
        table.add_column("name", min_width=22)
        for number in ("rows", "size"):
            table.add_column(number, min_width=7, justify="right")
        for text in ("licence", "where"):
            table.add_column(text, min_width=5)
        width = 6 if any(row[-1] for row in groups[group]) else 5
        for row in groups[group]:
            table.add_row(*row[:width])
        console.print(table)
        console.print()
    console.print("Any other set of timeseriesclassification.com is ucr/NAME or uea/NAME.")
    console.print("`latentops datasets NAME` shows one whole; `latentops add-dataset NAME` adds it.")


def print_one(name: str, own: Mapping[str, Dataset]) -> None:
    """Print what is known of the set `name`: of an entry of params.yaml (`own`), and of the catalogue.

    Where both have the same, that is one. Raises `UnknownNameError` where neither has it.
    """
    console = _console()
    if name not in own:
        known = catalogue.find(name)
        _print_set(console, name, known.source, known, "")
        return
    entry = catalogue.entry_of(own[name].source)
    _print_set(console, name, own[name].source, entry, f"datasets.{name} in params.yaml")
    other = catalogue.entries().get(name, entry)
    if other is not None and other is not entry:
        console.print(
            f"\nAnother set goes by that name: `latentops add-dataset {name} --name OTHER` adds it.\n"
        )
        _print_set(console, name, other.source, other, "")


def _print_set(console: Console, name: str, source: Source, entry: Entry | None, where: str) -> None:
    """Print a set of that source; `entry` is what the catalogue knows of it."""
    console.print(f"{name}: {entry.title}" if entry else name, style="bold")
    _print_pairs(
        console,
        {
            "kind": source.kind,
            "rows": _rows(name, entry),
            "size": _size(source, entry),
            "licence": entry.licence if entry else "",
            "citation": entry.citation if entry else "",
            "homepage": entry.homepage if entry else "",
            "entry": where,
            "files": "none: it is embedded" if source.name != "file" else "",
        },
    )
    for file in catalogue.all_files(source):
        found = fetch.found(file)
        console.print(f"\n{file.path}")
        _print_pairs(
            console,
            {
                "SHA-256": file.sha256
                if file.sha256 != UNPUBLISHED
                else "none published; pinned when fetched",
                "address": file.url or "",
                "member": file.member or "",
                "rows of": f"the official {file.part} part" if file.part else "",
                "where": f"{found[1]} ({found[0]})" if found else "not on this machine",
            },
        )


def _print_pairs(console: Console, pairs: Mapping[str, str]) -> None:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in pairs.items():
        if value:
            table.add_row(key, value)
    console.print(Padding(table, (0, 0, 0, 2)))


def _rows(name: str, entry: Entry | None) -> str:
    """How many rows the set has, or had when it was ingested."""
    import pyarrow.parquet as pq

    ingested = Path("data/raw", f"{name}.parquet")
    if entry is not None:
        return f"{entry.rows:,}" if entry.rows else ""
    return f"{pq.read_metadata(ingested).num_rows:,}" if ingested.exists() else ""


def _size(source: Source, entry: Entry | None) -> str:
    """What its files take, where they are here or it is known."""
    if entry is not None:
        return decimal(entry.size) if entry.size else ""
    found = [fetch.found(file) for file in source.files]
    sizes = [at[1].stat().st_size for at in found if at is not None and at[1].is_file()]
    return decimal(sum(sizes)) if len(sizes) == len(found) else ""


def _console() -> Console:
    console = Console(highlight=False, markup=False)
    return console if console.is_terminal else Console(width=_WIDTH, highlight=False, markup=False)
