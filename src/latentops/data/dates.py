"""How dates that aren't in ISO 8601 are written: told by their cells, and by what else is in the file."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

_DAY = re.compile(r"(\d{1,4})([./-])\d{1,2}\2(\d{1,4})(?=[ T]|$)", re.ASCII)
_NAMED = re.compile(
    r"(?:\d{1,2}(?P<after>\.? |-)(?P<month>[a-z]{3,9})(?P<then> |-)\d{4}"
    r"|(?P<first>[a-z]{3,9}) \d{1,2}(?P<comma>,?) \d{4})(?=[ T]|$)",
    re.ASCII | re.IGNORECASE,
)
_CLOCK = re.compile(
    r"(?P<mark>[ T])\s*\d{1,2}:\d{2}(?P<seconds>:\d{2}(?P<parts>\.\d{1,6})?)?(?P<half>\s?[AP]M)?",
    re.ASCII | re.IGNORECASE,
)


@dataclass(frozen=True)
class Written:
    """By column: how its dates are written, a remark on that, or why it isn't known."""

    formats: dict[str, str] = field(default_factory=dict)
    remarks: dict[str, str] = field(default_factory=dict)
    undecided: dict[str, str] = field(default_factory=dict)


def formats(cell: str) -> list[str]:
    """The formats of `datetime.strptime` that `cell` is a date in: two where day or month may come first.

    Years have four digits. `.`, `/` or `-` is between numbers; a month may have its English name; a time may
    follow.
    """
    day = _DAY.match(cell) or _NAMED.match(cell)
    if day is None:
        return []
    clock = _clock(cell[day.end() :])
    if clock is None:
        return []
    return [each + clock for each in _days(day) if _fits(cell, each + clock)]


def order(written: str) -> str:
    """What a format begins with: day first, month first or year first."""
    return {"%d": "day first", "%m": "month first", "%Y": "year first"}.get(written[:2], "month first, named")


def decide(found: Mapping[str, Sequence[str]], decimal: str) -> Written:
    """How dates are written, of the formats that each column's cells fit best.

    Where day first and month first fit alike, the file's other columns decide, or its decimal comma, or dots
    between the numbers, which go with day first.
    """
    certain = {name: each[0] for name, each in found.items() if len(set(map(order, each))) == 1}
    remarks = {name: f"{written}: {order(written)}" for name, written in certain.items()}
    chosen, undecided = dict(certain), dict[str, str]()
    others: dict[str, str] = {}
    for name, written in certain.items():
        if "%m" in written and order(written) != "year first":
            others.setdefault(order(written), f"as in column {name!r}")
    for name, each in found.items():
        if name in certain:
            continue
        by_order = {order(written): written for written in each}
        if len(others) == 1:
            ((first, why),) = others.items()
        elif decimal == "," or "." in each[0][:6]:
            first, why = "day first", f"as its {'decimal commas' if decimal == ',' else 'dots'} say"
        else:
            said = " or ".join(_said(name, written) for written in by_order.values())
            undecided[name] = f"dates, of which {' and '.join(by_order)} fit alike: say {said}"
            continue
        other = next(written for begin, written in by_order.items() if begin != first)
        chosen[name] = by_order[first]
        remarks[name] = f"{by_order[first]}: {first}, {why}; else say {_said(name, other)}"
    return Written(chosen, remarks, undecided)


def _said(name: str, written: str) -> str:
    return f"--dates {shlex.quote(f'{name}={written}')}"


def _days(day: re.Match[str]) -> list[str]:
    if day.re is _NAMED:
        name, lead = day["month"], day["first"]
        kinds = [kind for kind, fits in (("%b", len(name or lead) == 3), ("%B", True)) if fits]
        if lead is not None:
            return [f"{kind} %d{day['comma']} %Y" for kind in kinds]
        return [f"%d{day['after']}{kind}{day['then']}%Y" for kind in kinds]
    mark = day[2]
    if len(day[1]) == 4:
        return [mark.join(("%Y", "%m", "%d"))]
    return [mark.join(("%d", "%m", "%Y")), mark.join(("%m", "%d", "%Y"))]


def _clock(rest: str) -> str | None:
    """The format of the time that follows a day; None where something else does."""
    if not rest:
        return ""
    found = _CLOCK.fullmatch(rest)
    if found is None:
        return None
    seconds = (":%S" if found["seconds"] else "") + (".%f" if found["parts"] else "")
    if found["half"] is None:
        return f"{found['mark']}%H:%M{seconds}"
    blank = " " if found["half"][0].isspace() else ""
    return f"{found['mark']}%I:%M{seconds}{blank}%p"


def _fits(cell: str, written: str) -> bool:
    try:
        datetime.strptime(cell, written)
    except ValueError:
        return False
    return True
