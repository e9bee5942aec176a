import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from latentops.config import Params
from latentops.errors import DataError
from latentops.registry.gates import Gate
from latentops.reporting.card import card_for

Edit = Callable[[str, Callable[[dict[str, Any]], None]], None]
SECTIONS = [
    "Intended use",
    "Data",
    "How it was judged",
    "Results",
    "Floors",
    "Gates",
    "Warnings",
    "Limits",
    "Lineage",
    "Load it",
]


@pytest.mark.parametrize("dataset", ["digits", "breast_cancer", "digit_columns"])
def test_no_section_is_empty(finished: Path, params: Params, dataset: str) -> None:
    card = card_for(dataset, params, finished)
    parts = re.split(r"^## (.+)$", card, flags=re.M)
    assert parts[1::2] == SECTIONS
    assert all(len(text.strip()) > 20 for text in parts[2::2])


def test_no_section_is_empty_where_there_is_least_to_say(project: Path, params: Params, edit: Edit) -> None:
    edit("digits", lambda value: value.update(comparisons=[], gates=[]))
    parts = re.split(r"^## .+$", card_for("digits", params, project), flags=re.M)
    assert all(part.strip() for part in parts)


def test_the_card_of_a_version_has_its_name_and_its_gates(finished: Path, params: Params) -> None:
    gates = [
        Gate("parity", 2e-7, 1e-5, True, "package and pipeline agree"),
        Gate("size", 9.0, 5.0, False, "9 MB"),
    ]
    card = card_for("digits", params, finished, model="digits/7", gates=gates)
    assert 'latentops.load("digits/7")' in card
    assert "- parity: **passed**. package and pipeline agree\n- size: **held**. 9 MB\n" in card
    assert 'latentops.load("digits@champion")' in card_for("digits", params, finished)


def test_the_card_tells_what_speaks_against_the_model(finished: Path, params: Params) -> None:
    card = card_for("digit_columns", params, finished)
    assert "Without a code, raw does better" in card
    assert "beats PCA-8: **held**" in card


def test_the_card_tells_the_numbers_of_the_warnings_the_raised_ones_first(
    project: Path, params: Params, edit: Edit
) -> None:
    def copies(value: dict[str, Any]) -> None:
        chosen = next(row for row in value["rows"] if row["name"] == value["chosen"]["variant"])
        chosen["diagnosis"] |= {
            "explained": {"mean": 0.9, "low": 0.8, "high": 0.95},
            "copy_score": {"mean": 0.7, "low": 0.6, "high": 0.8},
        }

    edit("digits", copies)
    lines = (
        card_for("digits", params, project).partition("## Warnings")[2].split("##")[0].strip().splitlines()
    )
    copied = "copy score: R² on rows whose columns were permuted: 0.700 (0.600–0.800), **above 0.5**"
    assert lines[0] == f"- {copied}"
    assert "- R² of the reconstruction: 0.900 (0.800–0.950), not below 0.5" in lines[1:]


def test_the_card_shows_the_model_among_its_floors(finished: Path, params: Params) -> None:
    table = [line for line in card_for("digits", params, finished).splitlines() if line.startswith("| ")]
    names = [line.split("|")[1].strip() for line in table[2:]]
    assert {"raw", "**denoising**", "PCA-8", "random projection-8", "untrained denoising"} <= set(names)
    assert len({line.count("|") for line in table}) == 1


def test_names_cannot_break_the_table_or_become_markup(project: Path, params: Params, edit: Edit) -> None:
    def rename(value: dict[str, Any]) -> None:
        for row in value["rows"]:
            if row["name"] == "raw":
                row["name"] = "<b>raw</b> | input"

    edit("digits", rename)
    card = card_for("digits", params, project)
    assert "<b>" not in card
    assert "&lt;b&gt;raw&lt;/b&gt; \\| input" in card


def test_nothing_chosen_is_an_error(project: Path, params: Params, edit: Edit) -> None:
    edit("digits", lambda value: value.update(chosen=None))
    with pytest.raises(DataError, match="nothing was chosen"):
        card_for("digits", params, project)


def test_the_card_says_whose_the_data_are_and_which_files(finished: Path, params: Params) -> None:
    own = params.dataset("digits")
    assert "- Licence: CC BY 4.0; http" in card_for("digits", params, finished)
    files = params.dataset("ag_news_test").source
    read = params.model_copy(update={"datasets": {"digits": own.model_copy(update={"source": files})}})
    card = card_for("digits", read, finished)
    assert "- Licence: non-commercial" in card
    assert f"- File `{files.files[0].path}`, SHA-256 `{files.files[0].sha256}`." in card
    mine = files.model_copy(
        update={"files": [files.files[0].model_copy(update={"path": "a.csv", "sha256": "1" * 64})]}
    )
    read = params.model_copy(update={"datasets": {"digits": own.model_copy(update={"source": mine})}})
    card = card_for("digits", read, finished)
    assert "Licence" not in card
    assert f"- File `a.csv`, SHA-256 `{'1' * 64}`." in card
