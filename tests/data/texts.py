"""Small texts of two kinds, and the file and section of params.yaml that they are read by."""

import csv
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from latentops.config import Source, parse

WORDS = {
    "sport": ("the", "team", "won", "a", "match", "late", "goal", "by", "two"),
    "money": ("the", "bank", "sold", "a", "share", "late", "price", "by", "ten"),
}


def rows(count: int, seed: int = 0) -> list[dict[str, str]]:
    """`count` rows of a class, a title and a story, the classes in turn."""
    random = np.random.default_rng(seed)
    made = []
    for at in range(count):
        name = list(WORDS)[at % 2]
        drawn = [str(word) for word in random.choice(WORDS[name], size=random.integers(4, 12))]
        made.append({"class": name, "title": " ".join(drawn[:2]).title(), "story": " ".join(drawn[2:]) + "."})
    return made


def write_csv(path: Path, rows: Sequence[Mapping[str, str]], header: bool = True) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), quoting=csv.QUOTE_ALL)
        if header:
            writer.writeheader()
        writer.writerows(rows)


def section(path: Path, name: str, **changes: object) -> dict[str, object]:
    """The `source:` of the file at `path`, which params.yaml calls `name`."""
    return {
        "name": "file",
        "kind": "text",
        "files": [{"path": name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}],
        "read": {"format": "csv"},
        "label": "class",
        "text": ["title", "story"],
        **changes,
    }


def source(path: Path, name: str, **changes: object) -> Source:
    return parse(Source, section(path, name, **changes), "source")
