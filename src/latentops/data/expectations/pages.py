"""The pages of the data docs: of all versions of a dataset, and the first one of a version."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import yaml

from latentops import atomic
from latentops.config import params_path
from latentops.data.expectations.checks import Outcome
from latentops.data.profile import Profile

DOCS = Path("var/data_docs")
"""Data docs: `<dataset>/<version>/index.html`."""

_MD5 = partial(hashlib.md5, usedforsecurity=False)


def docs_of(dataset: str, raw: Path) -> Path:
    """The folder for the data docs of a version of `dataset`: `raw`, by its MD5 as DVC has it."""
    with raw.open("rb") as stream:
        return DOCS / dataset / hashlib.file_digest(stream, _MD5).hexdigest()[:12]


def list_docs(dataset: str) -> None:
    """Write the page of all versions of `dataset`: what was found of the latest, and a link to each."""
    pages = sorted((DOCS / dataset).glob("*/index.html"), key=lambda page: -page.stat().st_mtime)
    if not pages:
        return
    fronts = [
        page.read_text(encoding="utf-8").partition("<main>")[2].partition("</main>")[0] for page in pages
    ]
    lines = "".join(
        f"<tr><td>{datetime.fromtimestamp(page.stat().st_mtime, UTC):%Y-%m-%d %H:%M} UTC</td>"
        f'<td><a href="{page.parent.name}/index.html">{page.parent.name}</a></td>'
        f"<td>{front.partition('<p>')[2].partition('</p>')[0]}</td></tr>"
        for page, front in zip(pages, fronts, strict=True)
    )
    head = "<thead><tr><th>validated</th><th>version</th><th>found</th></tr></thead>"
    versions = (
        "<h2>Versions</h2><p>Of the raw data, by MD5, the one validated last first, which is shown below. "
        "A version's own page also has every expectation.</p>"
        f'<div class="wide versions"><table>{head}<tbody>{lines}</tbody></table></div>'
    )
    latest = f"<h2>Version {pages[0].parent.name}</h2>{fronts[0]}"
    atomic.write_text(DOCS / dataset / "index.html", html_page(dataset, versions + latest))


def stop(why: str | None) -> str:
    """What the first page of a version's data docs begins with where validation stopped, as HTML."""
    return f"<p><strong>Stopped:</strong> {escape(why or 'by an error')}</p>"


def front(summary: dict[str, Any], profile: Profile, dropped: Mapping[str, str]) -> str:
    """What it begins with elsewhere: rows, reasons, columns; `dropped` are passed over, each with why."""
    told = f"{summary['rows']:,} rows: {summary['clean']:,} clean, {summary['quarantined']:,} set aside."
    reasons = [(reason, f"{rows:,}") for reason, rows in summary["reasons"].items()]
    since = summary["accepted"]
    meant = {
        "predicts": (
            "tells the label",
            "how well this column alone tells the label, in rows that it wasn't learned from: 0 is no better "
            "than guessing, 1 is always right. Close to 1 it may be the label in disguise",
        ),
        "moved": (
            "moved",
            "how far its values are from those of the version accepted last"
            + (f" ({since['rows']:,} rows)" if since else "")
            + ": 0 is not at all, 1 is nothing in common",
        ),
    }
    shown = {
        key: each
        for key, each in meant.items()
        if any(column[key] is not None for column in summary["columns"])
    }
    columns = [
        (
            each["name"],
            "numeric label" if each["name"] == profile.label else column.type,
            column.told,
            f"{column.missing:.1%}",
            *("–" if each[figure] is None else f"{each[figure]:.3f}" for figure in shown),
        )
        for each, column in zip(summary["columns"], profile.columns, strict=True)
    ]
    classes = [(name, f"{rows:,}") for name, rows in profile.classes.items()]
    header = ("column", "type", "least … median … greatest, or values (rows)", "missing")
    return (
        f"<p>{told}</p>"
        + "".join(f"<p><strong>Look at</strong> {escape(flag)}</p>" for flag in summary["flags"])
        + (_table("Set aside", ("reason", "rows"), reasons, right=1) if reasons else "")
        + _table(
            "Columns of the clean rows",
            (*header, *(name for name, _ in shown.values())),
            columns,
            right=1 + len(shown),
        )
        + "".join(f"<p><em>{name}</em>: {escape(text)}.</p>" for name, text in shown.values())
        + (_table("Columns passed over", ("column", "why"), list(dropped.items())) if dropped else "")
        + (_table("Classes", (profile.label or "", "rows"), classes, right=1) if classes else "")
    )


def passed_over(dataset: str, dropped: Sequence[str]) -> dict[str, str]:
    """The columns `dropped`, each with why, as the comment beside it in params.yaml says."""
    told = dict.fromkeys(dropped, "named under source.drop")
    if not dropped or not params_path().exists():
        return told
    text = params_path().read_text(encoding="utf-8")
    node: Any = yaml.compose(text, Loader=yaml.CSafeLoader)
    for key in ("datasets", dataset, "source", "drop"):
        node = next((value for name, value in node.value if name.value == key), None) if node else None
    lines = text.splitlines()
    for each in node.value if node is not None and not node.flow_style else ():
        remark = lines[each.end_mark.line][each.end_mark.column :].strip().removeprefix("#").strip()
        if remark:
            told[each.value] = remark
    return told


def met_and_not(outcomes: Sequence[Outcome]) -> str:
    """How many expectations are met, and which are not, as HTML."""
    broken = [outcome.check for outcome in outcomes if not outcome.success]
    told = f"{len(outcomes) - len(broken)} of {len(outcomes)} expectations met"
    about = (
        check.means if check.level == "row" or check.column is None else f"{check.column}: {check.means}"
        for check in broken
    )
    return escape("; not met: ".join([told, *(["; ".join(about)] if broken else [])]))


def _table(title: str, header: Sequence[str], lines: Sequence[Sequence[str]], right: int = 0) -> str:
    """A table with its heading; the last `right` columns are numbers."""

    def row(cells: Sequence[str], tag: str) -> str:
        kinds = [""] * (len(cells) - right) + [' class="number"'] * right
        return "".join(
            f"<{tag}{kind}>{escape(cell)}</{tag}>" for cell, kind in zip(cells, kinds, strict=True)
        )

    body = "".join(f"<tr>{row(line, 'td')}</tr>" for line in lines)
    return (
        f'<h2>{title}</h2><div class="wide" role="region" tabindex="0" aria-label="{title}">'
        f"<table><thead><tr>{row(header, 'th')}</tr></thead><tbody>{body}</tbody></table></div>"
    )


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
    ".wide{overflow-x:auto}.versions{max-height:16rem}table{border-collapse:collapse;width:100%}"
    "th,td{text-align:left;vertical-align:top;padding:.25rem 1rem .25rem 0;border-bottom:1px solid #d5dae2}"
    "td{max-width:24rem;overflow-wrap:break-word}.number{text-align:right}td.number{white-space:nowrap}"
    "td:nth-child(3):not(:last-child){min-width:12rem}"
    "h2{font-size:1.1rem;margin-top:2rem}a{color:#0b57a4}@media(max-width:600px){table{font-size:.85rem}}"
)
