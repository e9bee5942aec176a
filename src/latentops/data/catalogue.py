"""Data sets by name: what they are, where they come from, and the source that reads them.

`catalogue.yaml` holds them; `ucr/NAME` and `uea/NAME` are any set of timeseriesclassification.com.
"""

import difflib
import re
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

import yaml
from pydantic import Field

from latentops.config import Count, File, PrimaryMetric, Settings, Source, parse
from latentops.data import fetch
from latentops.errors import DataError, UnknownNameError

UNPUBLISHED = "0" * 64
"""Stands for the SHA-256 of a file that none is published of, until `resolve` puts its own there."""

_SERIES = re.compile(r"(ucr|uea)/(\w+)")
_ARCHIVES = {
    "ucr": (
        "The UCR time series archive: one channel",
        "Dau et al. 2019, The UCR time series archive, IEEE/CAA Journal of Automatica Sinica 6",
    ),
    "uea": (
        "The UEA time series archive: several channels",
        "Bagnall et al. 2018, The UEA multivariate time series classification archive, arXiv:1811.00075",
    ),
}


class Entry(Settings):
    """A data set: its facts, its source, and what belongs beside the source in an entry of params.yaml.

    `rows` are samples, of a long series its steps; `size` is of its files, in bytes. Neither is known of
    `ucr/…` and `uea/…` before they are fetched, and no size of what is embedded.
    """

    title: str
    rows: Count | None = None
    size: Count | None = None
    licence: str
    citation: str
    homepage: str
    source: Source
    primary: PrimaryMetric
    normal: list[str]
    split: dict[str, object] = Field(default_factory=dict)
    expectations: dict[str, object] = Field(default_factory=dict)


@cache
def entries() -> dict[str, Entry]:
    """All sets that have an entry, by name."""
    text = files("latentops.data").joinpath("catalogue.yaml").read_text(encoding="utf-8")
    made = {}
    for name, section in cast("dict[str, dict[str, Any]]", yaml.safe_load(text)).items():
        source = section["source"]
        marks = source.get("read", {}).get("marks")
        for file in [*source.get("files", []), *([marks] if marks else [])]:
            file.setdefault("sha256", UNPUBLISHED)
        made[name] = parse(Entry, section, f"catalogue.yaml: {name}")
    return made


def find(name: str) -> Entry:
    """The set called `name`, as far as it is known without fetching it.

    Raises `UnknownNameError` where there is none.
    """
    known = entries()
    if name in known:
        return known[name]
    series = _SERIES.fullmatch(name)
    if series is None:
        close = difflib.get_close_matches(name, [*known, "ucr/NAME", "uea/NAME"], n=3)
        guess = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
        raise UnknownNameError(f"unknown data set {name!r}; {guess}`latentops datasets` lists them")
    archive, set_name = series.groups()
    return known[set_name] if set_name in known else _series(archive, set_name)


def resolve(name: str) -> Entry:
    """The set called `name` with a checksum for every file: what none is published of is fetched for it.

    Raises `UnknownNameError` where there is none, and `DataError` as `fetch.locate` does.
    """
    entry = find(name)
    source = entry.source
    pinned = [_pinned(file) for file in source.files]
    read = source.read
    if read is not None and read.marks is not None:
        read = read.model_copy(update={"marks": _pinned(read.marks)})
    entry = entry.model_copy(update={"source": source.model_copy(update={"files": pinned, "read": read})})
    return _as_its_header_says(entry) if entry.rows is None else entry


def entry_of(source: Source) -> Entry | None:
    """The set that `source` reads, whatever its own entry is called; None where it is none of these."""
    for entry in entries().values():
        same = [file.sha256 for file in entry.source.files] == [file.sha256 for file in source.files]
        if same and entry.source.name == source.name:
            return entry
    return None


def all_files(source: Source) -> list[File]:
    """The files of a source, and those that say something about them."""
    marks = source.read.marks if source.read else None
    return [*source.files, *([marks] if marks else [])]


def at_hand(source: Source) -> str:
    """Where all files of a source are on this machine, unchecked; empty where one is missing."""
    if source.name != "file":
        return "embedded"
    found = [fetch.found(file) for file in all_files(source)]
    places = dict.fromkeys(each[0] for each in found if each is not None)
    return ", ".join(places) if None not in found else ""


def _pinned(file: File) -> File:
    if file.sha256 != UNPUBLISHED or file.url is None:
        return file
    return fetch.pin(file.path, file.url, file.member, file.part)


def _series(archive: str, name: str) -> Entry:
    title, citation = _ARCHIVES[archive]
    url = f"https://timeseriesclassification.com/aeon-toolkit/{name}.zip"
    parts = [
        {
            "path": f"sequences/{name}/{name}_{part.upper()}.ts",
            "sha256": UNPUBLISHED,
            "url": url,
            "member": f"{name}_{part.upper()}.ts",
            "part": part,
        }
        for part in ("train", "test")
    ]
    section = {
        "title": title,
        "licence": "none stated",
        "citation": citation,
        "homepage": f"https://timeseriesclassification.com/description.php?Dataset={name}",
        "source": {
            "name": "file",
            "kind": "sequence",
            "label": "class",
            "files": parts,
            "read": {"format": "ts"},
        },
        "primary": "probe_accuracy",
        "normal": [],
        "split": {"test": "official"},
    }
    return parse(Entry, section, f"{archive}/{name}")


def _as_its_header_says(entry: Entry) -> Entry:
    """A set of `.ts` files with the channels, classes, rows and size that they have."""
    paths = [fetch.locate(file) for file in entry.source.files]
    header = _header(paths[0])
    classes = header.get("classlabel", ["false"])
    if classes[0].lower() != "true":
        raise DataError(f"{paths[0]}: names no classes under @classLabel; it can't be added by name")
    several = header.get("univariate", ["true"])[0].lower() == "false"
    channels = header.get("dimensions", header.get("dimension", [""]))[0] if several else "1"
    if not channels.isdigit():
        raise DataError(f"{paths[0]}: doesn't say under @dimensions how many channels it has")
    return entry.model_copy(
        update={
            "rows": sum(_data_lines(path) for path in paths),
            "size": sum(path.stat().st_size for path in paths),
            "source": entry.source.model_copy(update={"channels": int(channels)}),
            "normal": classes[1:2],
            "expectations": {"classes": classes[1:]},
        }
    )


def _header(path: Path) -> dict[str, list[str]]:
    """What the lines before the data say, by key in lower case."""
    found: dict[str, list[str]] = {}
    for line in _lines(path):
        if line.startswith("@"):
            key, *values = line[1:].split()
            found[key.lower()] = values
            if key.lower() == "data":
                return found
    raise DataError(f"{path}: not a .ts file: it has no line @data")


def _data_lines(path: Path) -> int:
    lines = iter(_lines(path))
    for line in lines:
        if line.lower() == "@data":
            break
    return sum(bool(line) for line in lines)


def _lines(path: Path) -> Iterable[str]:
    with path.open(encoding="utf-8", errors="replace") as stream:
        yield from (line.strip() for line in stream)
