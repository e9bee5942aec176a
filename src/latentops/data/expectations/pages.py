"""The pages of the data docs: of all versions of a dataset, and the first one of a version."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

from latentops import atomic
from latentops.data.expectations.checks import Outcome

DOCS = Path("var/data_docs")
"""Data docs: `<dataset>/<version>/index.html`."""

_MD5 = partial(hashlib.md5, usedforsecurity=False)


def docs_of(dataset: str, raw: Path) -> Path:
    """The folder for the data docs of a version of `dataset`: `raw`, by its MD5 as DVC has it."""
    with raw.open("rb") as stream:
        return DOCS / dataset / hashlib.file_digest(stream, _MD5).hexdigest()[:12]


def list_docs(dataset: str) -> None:
    """Write the page that links to the data docs of all versions of `dataset`, the latest first."""
    pages = sorted((DOCS / dataset).glob("*/index.html"), key=lambda page: -page.stat().st_mtime)
    links = "".join(
        f'<li><a href="{page.parent.name}/index.html">{page.parent.name}</a>, '
        f"{datetime.fromtimestamp(page.stat().st_mtime, UTC):%Y-%m-%d %H:%M} UTC</li>"
        for page in pages
    )
    told = "<p>Versions of the raw data, by MD5, the one validated last first.</p>"
    atomic.write_text(DOCS / dataset / "index.html", html_page(dataset, f"{told}<ul>{links}</ul>"))


def front(summary: dict[str, Any] | None, stopped: str | None) -> str:
    """What the first page of the data docs begins with, as HTML."""
    if summary is None:
        return f"<p><strong>Stopped:</strong> {escape(stopped or 'by an error')}</p>"
    told = f"{summary['rows']:,} rows: {summary['clean']:,} clean, {summary['quarantined']:,} set aside."
    reasons = [(reason, f"{rows:,}") for reason, rows in summary["reasons"].items()]
    columns = [
        (
            each["name"],
            f"{each['missing']:.1%}",
            *("–" if each[figure] is None else f"{each[figure]:.3f}" for figure in ("predicts", "moved")),
        )
        for each in summary["columns"]
    ]
    since = summary["accepted"]
    compared = (
        f"moved: distance from the version accepted last ({since['rows']:,} rows), 1 is nothing in common"
        if since
        else "moved: no version was accepted yet"
    )
    return (
        f"<p>{told}</p>"
        + "".join(f"<p><strong>Look at</strong> {escape(flag)}</p>" for flag in summary["flags"])
        + (_table("Set aside", ("reason", "rows"), reasons) if reasons else "")
        + _table("Columns", ("column", "missing", "predicts", "moved"), columns)
        + f"<p>predicts: the label by this column alone, 0 is guessing and 1 always; {compared}.</p>"
    )


def met_and_not(outcomes: Sequence[Outcome]) -> str:
    """How many expectations are met, and which are not, as HTML."""
    broken = [outcome.check for outcome in outcomes if not outcome.success]
    told = f"{len(outcomes) - len(broken)} of {len(outcomes)} expectations met"
    about = (
        check.means if check.level == "row" or check.column is None else f"{check.column}: {check.means}"
        for check in broken
    )
    return escape("; not met: ".join([told, *(["; ".join(about)] if broken else [])]))


def _table(title: str, header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in line) + "</tr>" for line in lines)
    return f"<h2>{title}</h2><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def html_page(title: str, body: str) -> str:
    """A whole page; `body` is HTML."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}: data docs</title><style>{_STYLE}</style></head>"
        f"<body><h1>{escape(title)}</h1>{body}</body></html>\n"
    )


_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1c2430}"
    "table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.25rem .75rem .25rem 0;"
    "border-bottom:1px solid #d5dae2;overflow-wrap:anywhere}td+td,th+th{text-align:right;white-space:nowrap}"
    "h2{font-size:1.1rem;margin-top:2rem}a{color:#0b57a4}"
)
