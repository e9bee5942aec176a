"""DVC's list of the paths that its processes read and write, freed of what a killed one left in it.

DVC itself passes over processes that are gone. It waits forever for one whose number another program has by
now, as in a container that was started anew, and for a list that was cut off while it was written.
"""

import json
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from latentops import atomic

LIST = Path(".dvc/tmp/rwlock")


def release(root: Path = Path()) -> list[str]:
    """Take out what no process of DVC holds any more; what it was, a line each."""
    path = root / LIST
    if not path.exists() or path.read_text(encoding="utf-8").strip() == "{}":
        return []
    from dvc.lock import make_lock

    with make_lock(str(path.with_name("rwlock.lock")), tmp_dir=str(path.parent), wait=True):
        try:
            held = json.loads(path.read_text(encoding="utf-8"))
            readers = {name: list(those) for name, those in held.get("read", {}).items()}
            writers = dict(held.get("write", {}))
            gone = {
                one["pid"]: one["cmd"]
                for one in [*writers.values(), *(each for those in readers.values() for each in those)]
                if not _holds(int(one["pid"]), one["cmd"])
            }
        except (ValueError, TypeError, KeyError, AttributeError):
            path.unlink()
            return [f"removed {path}, which a process that was killed had left half-written"]
        if gone:
            left: dict[str, Any] = {
                "read": {
                    name: rest
                    for name, those in readers.items()
                    if (rest := [one for one in those if one["pid"] not in gone])
                },
                "write": {name: one for name, one in writers.items() if one["pid"] not in gone},
            }
            atomic.write_text(path, json.dumps(left))
    return [f"released what `{cmd}` (process {pid}, which is gone) had locked" for pid, cmd in gone.items()]


def _holds(pid: int, command: str) -> bool:
    """Whether process `pid` runs, and may be the one that was started as `command`."""
    try:
        words = psutil.Process(pid).cmdline()
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
    _, _, arguments = command.partition(" ")
    return " ".join(words).endswith(arguments) or any("dvc" in Path(word).name for word in words)
