"""Write aside, then rename: a reader sees the old file or the new one, never half of either."""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it takes `path`'s place, else it is removed.

    The temporary path doesn't exist when it is yielded, so the caller may make it a file or a folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield aside
        if aside.is_dir() and path.exists():
            old = path.with_name(f".{path.name}.{os.getpid()}.old.part")
            path.rename(old)
            aside.rename(path)
            shutil.rmtree(old)
        else:
            aside.replace(path)
    finally:
        if aside.is_dir():
            shutil.rmtree(aside)
        else:
            aside.unlink(missing_ok=True)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold `folder` while a file in it is read, changed and put back: another process that asks waits."""
    held = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)


@contextmanager
def writing(path: Path) -> Iterator[TextIO]:
    """Open `path` for text, line by line, through `replacing`."""
    with replacing(path) as aside, aside.open("w", encoding="utf-8", newline="\n", buffering=1) as stream:
        yield stream


def write_text(path: Path, text: str) -> None:
    """Put `text` into `path` whole."""
    with writing(path) as stream:
        stream.write(text)


def canonical(value: object) -> str:
    """The one JSON text of `value`: sorted keys, two-space indent, final newline, NaN refused."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: Path, value: object) -> None:
    """Put `value` into `path` as canonical JSON."""
    write_text(path, canonical(value))
