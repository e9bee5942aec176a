"""A dataset of one's own, from a path to an entry in params.yaml whose rows were looked at and validated."""

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from latentops.config import NAME, Source, load_params, params_path
from latentops.data import catalogue, detection, entry, proposal, sources
from latentops.data.detection import Said
from latentops.data.dialect import is_number
from latentops.data.expectations.reasons import Reasons
from latentops.data.profile import Profile, profile
from latentops.data.table import Rows, labels
from latentops.errors import ConfigError, DataError, UnknownNameError

FOLDERS = ("data/accepted", "data/profiles")
"""Where each dataset has a folder, which DVC looks for, of rows and of a profile that were accepted."""

_BAD = 0.5  # share of the rows that may be set aside to begin with
_LONGEST = 64  # characters of a name, which is a part of many


@dataclass(frozen=True)
class Added:
    """What became of a path: its entry's name and text, the profile of its rows, and remarks by column."""

    name: str
    text: str
    source: Source
    profile: Profile
    remarks: Mapping[str, str]


def add(target: str, said: Said, name: str | None = None, normal: Sequence[str] = ()) -> Added:
    """Write the entry of a path, or of a set of the catalogue, into params.yaml.

    Raises `UnknownNameError` where there is no such set, `DataError` where there is no such path, it can't be
    read or its label is none, and `ConfigError` where its entry can't be used. Then params.yaml is as it was.
    """
    path = Path(target)
    name = name or _name(path)
    if (
        len(name) > _LONGEST
        or not re.fullmatch(NAME, name)
        or not isinstance(yaml.safe_load(name), str)
        or is_number(name)
    ):
        raise ConfigError(
            f"{target}: {name!r} can't be a dataset's name; choose another with --name, of letters, digits, "
            f"_ and -, {_LONGEST} at most, that isn't a number, a date or a word such as yes or null"
        )
    if path.exists():
        found = detection.detect(path, said)
        called = list(normal) or (["normal"] if said.marks else [])  # what isn't marked is, and only that
        told: dict[str, object] = {"normal": called} if called else {}
        title = ": ".join(filter(None, [target, found.remarks.get("")]))
        return _enter(found.source, name, title, found.remarks, told)
    try:
        catalogue.find(target)
    except UnknownNameError as error:
        if path.suffix or path.parent != Path():
            raise DataError(f"{target}: no such file or folder, and {error}") from None
        raise
    if said != Said():
        raise DataError(f"{target}: a set of the catalogue takes no options but --name and --normal")
    known = catalogue.resolve(target)
    hints: dict[str, object] = {"normal": list(normal) or known.normal, "primary": known.primary or "none"}
    hints |= {"split": known.split, "expectations": known.expectations}
    title = f"{known.title}; {known.licence}"
    return _enter(known.source, name, title, {}, hints)


def _enter(
    source: Source, name: str, title: str, remarks: Mapping[str, str], hints: Mapping[str, object]
) -> Added:
    if name in load_params().datasets:
        raise ConfigError(
            f"{params_path()}: datasets.{name} is there already; choose another --name, or remove it"
        )
    rows = sources.read_source(source)
    trainable: Counter[str | None] = Counter()
    bad, reasons = Counter[bool](), Reasons()

    def counted() -> Iterator[pa.Table]:
        for part in rows.parts:
            official = (
                part.column(".part").to_pylist() if "part" in rows.layout.extras else [None] * len(part)
            )
            pairs = zip(labels(part, rows.layout), official, strict=True)
            trainable.update(label for label, side in pairs if side != "test")
            faults = proposal.faults(part, rows.layout)
            bad.update(map(bool, faults))
            reasons.add(faults)
            yield part

    profiled = profile(Rows(rows.layout, counted()))
    _check_label(source, profiled, title)
    share = bad[True] / max(bad.total(), 1)
    if share > _BAD:
        raise DataError(
            f"{title}: {bad[True]:,} of {bad.total():,} rows would be set aside{reasons.first()}; mend them, "
            "or read them otherwise (--type, --dates, --missing, --label, --drop)"
        )
    if source.label is not None and source.numeric_label:
        values = profiled.column(source.label).distinct
        title = f"{title}; its label, {source.label}, is a number of {values:,} values"
    normal = hints.get("normal")
    for each in normal if isinstance(normal, list) else []:
        if each not in profiled.classes:
            known = ", ".join(profiled.classes) or "none"
            raise DataError(f"{title}: no row is of class {each!r}; there are: {known}")
    told = _told(profiled)
    told |= {name: "; ".join(filter(None, [each, told.get(name)])) for name, each in remarks.items()}
    limits = {**proposal.propose(profiled, share), **_mapping(hints.get("expectations"))}
    settings = entry.propose(source, profiled, trainable, limits, hints)
    text = entry.text(name, settings, f"{profiled.rows:,} rows; {title}", told)
    entry.add(params_path(), name, text)
    for folder in FOLDERS:
        Path(folder, name).mkdir(parents=True, exist_ok=True)
        Path(folder, name, ".gitkeep").touch()
    return Added(name, text, source, profiled, remarks)


def _check_label(source: Source, profiled: Profile, title: str) -> None:
    """`DataError` where the label tells no rows apart, or of classes all of them."""
    if source.label is not None and source.numeric_label:
        if profiled.column(source.label).distinct < 2:
            raise DataError(f"{title}: the label {source.label!r} has fewer than two values; name another")
        return
    classes, rows = profiled.classes, sum(profiled.classes.values())
    if source.label is None or 1 < len(classes) <= max(rows / 2, 2):
        return
    values = "one value alone" if len(classes) == 1 else f"{len(classes):,} values in {rows:,} rows"
    raise DataError(
        f"{title}: the label {source.label!r} has {values}, so it makes no classes; name another with "
        "--label, or pass it over with --drop"
    )


def preview(added: Added) -> Iterator[tuple[str, ...]]:
    """The names of the label and of the first columns, and their values in the first rows."""
    rows = added.profile.preview
    names = [name for name in rows[0] if not name.startswith(".")][:8] if rows else []
    yield tuple(names)
    for row in rows:
        yield tuple(row[name] for name in names)


def table(added: Added) -> Iterator[tuple[str, str, str]]:
    """Each column: its name, its type, and what it is like, or why it is passed over.

    Categories have their rows in brackets, the most frequent first.
    """
    for column in added.profile.columns:
        type_ = "numeric label" if column.name == added.source.label else column.type
        missing = f", {column.missing:.1%} missing" if column.missing else ""
        like = [f"{column.told}{missing}", added.remarks.get(column.name, "")]
        yield column.name, type_, "; ".join(filter(None, like))
    for name in added.source.drop:
        yield name, "passed over", added.remarks.get(name, "")


def validated(added: Added) -> dict[str, Any]:
    """Ingest the rows and hold them to what is expected, as the DAG does; what validation says of them.

    Raises `DataError` where they don't pass; the stage has said why. Then all that was added is gone again.
    """
    done: list[str] = []
    try:
        for stage in ("ingest", "validate"):
            command = [sys.executable, "-m", "latentops.stages", stage, added.name]
            if subprocess.run(command, check=False).returncode:
                raise DataError(
                    f"{added.name}: its rows don't pass, so datasets.{added.name} was taken out of "
                    f"{params_path()} again; mend them, or say with options how else they are to be read"
                )
            done.append(stage)
    except BaseException:
        _take_back(added.name, done)
        raise
    found: dict[str, Any] = json.loads(Path("results/validate", f"{added.name}.json").read_text("utf-8"))
    return found


def _take_back(name: str, done: Sequence[str]) -> None:
    """Undo what was added and what the stages that are `done` wrote; rows once accepted stay."""
    entry.remove(params_path(), name)
    for folder in FOLDERS:
        if [each.name for each in Path(folder, name).iterdir()] == [".gitkeep"]:
            shutil.rmtree(Path(folder, name))
    if "ingest" in done:
        Path("data/raw", f"{name}.parquet").unlink()


def _told(profiled: Profile) -> dict[str, str]:
    """A remark on each column that has anything to it."""
    found = {}
    for column in profiled.columns:
        said = [f"{column.distinct:,} values"] if column.type == "categorical" else []
        said += [f"{column.missing:.1%} missing"] if column.missing else []
        if said:
            found[column.name] = ", ".join(said)
    return found


def _mapping(value: object) -> dict[str, object]:
    return {str(key): each for key, each in value.items()} if isinstance(value, Mapping) else {}


def _name(path: Path) -> str:
    stem = path.resolve().name.split(".")[0]
    return re.sub(r"\W+", "_", stem.removesuffix("_TRAIN")).strip("_").lower() or "mine"
