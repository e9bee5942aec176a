import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latentops import costs
from latentops.atomic import write_json
from latentops.config import Params
from latentops.errors import DataError
from latentops.registry import ledger, looks
from latentops.registry.looks import Look
from latentops.reporting import board, page
from latentops.reporting.leaderboard import interval, number
from latentops.reporting.results import comparison, curves

Edit = Callable[[str, Callable[[dict[str, Any]], None]], None]
CARD_SECTIONS = [
    "Intended use", "Data", "How it was judged", "Results", "Floors", "Gates", "Warnings",
    "Limits", "Lineage", "Load it"
]  # fmt: skip
HOSTILE = '<script>alert("x")</script>&'
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Node:
    def __init__(self, tag: str, attributes: dict[str, str], parent: "Node | None") -> None:
        self.tag, self.attributes, self.parent = tag, attributes, parent
        self.children: list[Node] = []
        self.text = ""

    def all(self, tag: str) -> "list[Node]":
        own = [child for child in self.children if child.tag == tag]
        return own + [node for child in self.children for node in child.all(tag)]

    @property
    def words(self) -> str:
        return " ".join([self.text, *(child.words for child in self.children)]).strip()


class Tree(HTMLParser):
    """The page as nodes; a tag that is closed in the wrong place fails the test."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.root = self.at = Node("root", {}, None)
        self.feed(text)
        assert self.at is self.root, f"<{self.at.tag}> is never closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        node = Node(tag, {name: value or "" for name, value in attrs}, self.at)
        self.at.children.append(node)
        if tag not in VOID:
            self.at = node

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.at.children.append(Node(tag, {name: value or "" for name, value in attrs}, self.at))

    def handle_endtag(self, tag: str) -> None:
        assert self.at.tag == tag, f"</{tag}> closes <{self.at.tag}>"
        assert self.at.parent is not None
        self.at = self.at.parent

    def handle_data(self, data: str) -> None:
        self.at.text += data


Pages = dict[str, str]
Write = Callable[..., Pages]


def written(params: Params, root: Path, **named: Any) -> Pages:
    """The text of every page by its name."""
    folder = page.write(params, root, **named).parent
    return {path.stem: path.read_text(encoding="utf-8") for path in folder.glob("*.html")}


@pytest.fixture(scope="module")
def pages(finished: Path, params: Params) -> Pages:
    return written(params, finished)


@pytest.fixture(scope="module")
def trees(pages: Pages) -> dict[str, Node]:
    return {name: Tree(text).root for name, text in pages.items()}


@pytest.fixture
def write(project: Path, params: Params) -> Write:
    """Write the pages of a project of one's own."""
    return lambda **named: written(params, project, **named)


def test_there_is_an_index_and_a_page_a_dataset(finished: Path, pages: Pages) -> None:
    assert pages.keys() == {"index", "costs", "drift", "digits", "breast_cancer", "digit_columns"}
    assert (finished / "reports/index.html").read_text(encoding="utf-8") == pages["index"]
    assert all(len(text) < 3_000_000 for text in pages.values())


def test_the_same_results_give_the_same_pages(finished: Path, params: Params, pages: Pages) -> None:
    again = written(params, finished, folder=Path("var/again"))
    assert again == pages


def test_pages_of_datasets_that_are_gone_go_too(write: Write) -> None:
    assert "digits" in write()
    assert write(datasets=["breast_cancer"]).keys() == {"index", "costs", "drift", "breast_cancer"}


def test_a_dataset_called_as_the_first_page_is_refused(project: Path, write: Write) -> None:
    (project / "results/compare/digits.json").rename(project / "results/compare/index.json")
    with pytest.raises(DataError, match="call the dataset something else"):
        write()


def test_nothing_is_asked_of_another_host(trees: dict[str, Node], pages: Pages) -> None:
    for name, text in pages.items():
        assert "default-src 'none'" in text
        assert "url(" not in text
        assert "@import" not in text
        for tag, attribute in (("img", "src"), ("a", "href"), ("link", "href"), ("script", "src")):
            for node in trees[name].all(tag):
                address = node.attributes.get(attribute, "#")
                inside = address.partition("#")[0].removesuffix(".html")
                assert address.startswith(("#", "data:", "../")) or inside in pages, address


@pytest.mark.parametrize("name", ["index", "digits", "breast_cancer", "digit_columns"])
def test_every_drawing_and_figure_says_what_it_shows(trees: dict[str, Node], name: str) -> None:
    tree = trees[name]
    drawings = tree.all("svg")
    assert drawings
    for node in drawings:
        assert node.attributes.get("aria-hidden") == "true" or node.attributes["aria-label"]
    for node in tree.all("img"):
        assert node.attributes["alt"]
    for node in tree.all("figure"):
        assert node.all("figcaption")[0].words
    for node in tree.all("table"):
        assert node.all("caption")[0].words
        assert all(head.attributes["scope"] for head in node.all("th"))


def test_ids_are_unique_and_links_lead_somewhere(trees: dict[str, Node]) -> None:
    ids = {
        name: [node.attributes["id"] for node in walk(tree) if "id" in node.attributes]
        for name, tree in trees.items()
    }
    for name, tree in trees.items():
        assert len(ids[name]) == len(set(ids[name]))
        for node in tree.all("a"):
            other, _, place = node.attributes["href"].partition("#")
            assert not place or place in ids[other.removesuffix(".html") or name]


def walk(node: Node) -> list[Node]:
    return [node, *(below for child in node.children for below in walk(child))]


@pytest.mark.parametrize("dataset", ["digits", "breast_cancer", "digit_columns"])
@pytest.mark.parametrize("where", ["index", None])
def test_the_boards_hold_the_values_of_the_comparison(
    finished: Path, trees: dict[str, Node], dataset: str, where: str | None
) -> None:
    table = trees[where or dataset].all("table")[0]
    lines = {
        line.attributes["data-name"]: line
        for line in table.all("tr")
        if line.attributes.get("data-dataset") == dataset
    }
    rows = {row.name: row for row in comparison(dataset, finished).rows}
    assert lines.keys() == rows.keys()
    for name, line in lines.items():
        cells = {
            cell.attributes["data-metric"]: cell
            for cell in line.all("td")
            if "data-metric" in cell.attributes
        }
        for metric, cell in cells.items():
            estimate = rows[name].metrics.get(metric)
            if estimate is None:
                assert cell.attributes["data-value"] == ""
                continue
            assert float(cell.attributes["data-value"]) == estimate.mean
            assert number(estimate.mean) in cell.words
            if metric in board.DRAWN:
                assert interval(estimate) in cell.words


def test_every_metric_has_a_column_and_few_are_shown_at_first(trees: dict[str, Node]) -> None:
    heads = trees["digits"].all("table")[0].all("th")
    shown = {cell.words.split("  ")[0]: "more" in cell.attributes["class"].split() for cell in heads
             if cell.attributes["scope"] == "col" and "class" in cell.attributes}  # fmt: skip
    assert {name.strip() for name, more in shown.items() if more} == {
        "AUROC, reconstruction", "AUROC, code"
    }  # fmt: skip
    assert not shown["reconstruction error"]


def test_health_numbers_are_columns_where_all_have_them_and_facts_where_not(trees: dict[str, Node]) -> None:
    tables = trees["digits"].all("table")
    table = next(each for each in tables if each.attributes.get("class") == "health")
    heads = [cell.words for cell in table.all("th") if cell.attributes.get("scope") == "col"]
    assert heads == ["variant", "effective rank", "its own"]
    lines = {line.all("th")[0].words: " ".join(line.words.split()) for line in table.all("tr")}
    assert "dead units 1.000 0.500–1.500" in lines["sparse"]
    assert "6.500" in lines["undercomplete"]
    assert "dead units" not in lines["undercomplete"]
    assert "KL –" in lines["variational"]


def test_the_chosen_variant_and_the_references_ahead_are_marked(trees: dict[str, Node]) -> None:
    table = trees["digits"].all("table")[0]
    tags = {
        line.attributes["data-name"]: [
            tag.text for tag in line.all("span") if "tag" in tag.attributes.get("class", "")
        ]
        for line in table.all("tr")
        if "data-name" in line.attributes
    }
    assert {name: words for name, words in tags.items() if words} == {
        "denoising": ["chosen"],
        "raw": ["ahead"],
    }
    assert next(iter(tags)) == "raw"


def test_gates_and_verdicts_are_shown(pages: Pages) -> None:
    text = pages["digit_columns"]
    assert "no new champion: 1 of 5 gates not met" in pages["index"]
    assert "passes all 5 gates" in pages["index"]
    assert "Not met: beats PCA-8." in text
    assert "no difference shown" in text
    assert "deception ceased to be a number or was over strain_limit (20) at step 310" in text


def test_without_models_the_page_says_what_is_missing(pages: Pages) -> None:
    text = pages["digits"]
    assert "No pictures: " in text
    assert "dvc repro prepare@digits" in text


def test_hostile_names_are_text(project: Path, edit: Edit, write: Write) -> None:
    def rename(value: dict[str, Any]) -> None:
        for row in value["rows"]:
            if row["name"] == "PCA-8":
                row["name"] = HOSTILE
        value["gates"][0]["text"] = HOSTILE

    edit("digits", rename)
    path = project / "results/validate/digits.json"
    value = json.loads(path.read_text())
    write_json(path, {**value, "reasons": {HOSTILE: 3}})
    for text in (write()["digits"], write()["index"]):
        assert "alert(" in text
        assert "<script>alert" not in text
        assert len(Tree(text).root.all("script")) == 1


def test_only_named_datasets_are_shown(write: Write) -> None:
    assert "breast_cancer" not in "".join(write(datasets=["digits"]).values())


def test_data_docs_are_shown_where_they_are(project: Path, write: Write) -> None:
    docs = project / "var/data_docs/digits/index.html"
    docs.parent.mkdir(parents=True)
    docs.write_text("docs")
    pages = write()
    link = next(node for node in Tree(pages["digits"]).root.all("a") if ".." in node.attributes["href"])
    assert (project / "reports" / link.attributes["href"]).resolve() == docs.resolve()
    assert "not made on this machine" in pages["breast_cancer"]


def test_costs_have_a_page_of_their_own(project: Path, write: Write) -> None:
    before = write()
    assert "No stage has run on this machine" in before["costs"]
    for seconds in (4.0, 5.0, 6.5):
        costs.write("train@digits-sparse", seconds, 3.0, 300 * 2**20, project)
    costs.write("train@digits-variational", 4.0, 3.5, 100 * 2**20, project)
    costs.write("report", 1.0, 0.5, 50 * 2**20, project)
    pages = write()
    by_verb, by_stage = Tree(pages["costs"]).root.all("table")
    assert [row.words.split() for row in by_verb.all("tr")[1:]] == [
        ["train", "2", "10.5", "s", "10.5", "6.5", "6.5", "300"],
        ["report", "1", "1.0", "s", "1.0", "0.5", "1.0", "50"],
    ]
    dearest = by_stage.all("tr")[1]
    assert dearest.words.split()[:1] == ["train@digits-sparse"]
    assert [node.words for node in dearest.all("td") if not node.all("svg")][:5] == [
        "6.5",
        "5.0",
        "3",
        "3.0",
        "300",
    ]
    assert {name for name in pages if pages[name] != before[name]} == {"costs"}, "results have other bytes"


def test_drift_has_a_page_of_its_own(project: Path, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    before = write()
    assert "Nobody has looked yet" in before["drift"]
    monkeypatch.chdir(project)
    for p_value, name in ((0.4, "quiet.csv"), (0.002, "<odd>.csv")):
        finding = {"of": "codes", "test": "kernel", "statistic": 0.1, "p_value": 0.1, "corrected": p_value}
        found = {"rows": 20, "known": 90, "tests": 4, "drifted": p_value < 0.01}
        moved = {**found, "findings": [{**finding, "moved": p_value < 0.01}]}
        looks.keep(Look("digits", "retrain", [name], 3, moved))
    looks.keep(Look("digits", "score", ["few.parquet"], 3, {**found, "drifted": False, "findings": []}))
    pages = write()
    by_dataset, every = Tree(pages["drift"]).root.all("table")
    assert by_dataset.all("tr")[1].words.split()[0] == "digits"
    assert [[cell.words for cell in row.all("td")][1:] for row in every.all("tr")[1:]] == [
        ["score", "few.parquet", "20", "90", "3", "–", "too few rows to say"],
        ["retrain", "<odd>.csv", "20", "90", "3", "0.002", "codes"],
        ["retrain", "quiet.csv", "20", "90", "3", "0.400", "nothing"],
    ]
    assert {name for name in pages if pages[name] != before[name]} == {"drift"}, "results have other bytes"


@pytest.mark.parametrize("name", ["index", "costs", "drift"])
def test_no_dataset_takes_the_name_of_a_page(write: Write, name: str) -> None:
    with pytest.raises(DataError, match=f"{name}.html is the report's own page"):
        write(datasets=[name])


def test_the_data_docs_of_the_version_in_use_come_first(project: Path, write: Write) -> None:
    folder = project / "var/data_docs/digits"
    for place in (folder, folder / "0123456789ab"):
        place.mkdir(parents=True, exist_ok=True)
        (place / "index.html").write_text("docs")
    assert 'href="../var/data_docs/digits/index.html"' in write()["digits"]
    outs = [{"path": "data/raw/digits.parquet", "md5": "0123456789abcdef"}]
    (project / "dvc.lock").write_text(json.dumps({"stages": {"ingest@digits": {"cmd": "", "outs": outs}}}))
    assert 'href="../var/data_docs/digits/0123456789ab/index.html"' in write()["digits"]


def test_flags_and_columns_of_the_data_are_shown(project: Path, write: Write) -> None:
    path = project / "results/validate/digits.json"
    columns = [
        {"name": "size", "missing": 0.125, "constant": False, "predicts": 0.987, "moved": 0.421},
        {"name": "colour", "missing": 0.0, "constant": True},
    ]
    flags = ["size: predicts the label alone", "colour: constant"]
    write_json(path, {**json.loads(path.read_text()), "columns": columns, "flags": flags})
    tree = Tree(write()["digits"]).root
    assert all(flag in [item.words for item in tree.all("li")] for flag in flags)
    rows = [row.words for row in tree.all("tr")]
    assert "size 12.5 % 0.987 0.421" in rows
    assert "colour 0.0 % – –" in rows


@pytest.mark.parametrize(
    ("path", "command"),
    [
        ("results/compare/digits.json", "dvc repro compare@digits"),
        ("results/validate/digits.json", "dvc repro validate@digits"),
        ("results/train/digits/sparse/metrics.json", "dvc repro train@digits-sparse"),
        ("results/train/digits/sparse/curves.csv", "dvc repro train@digits-sparse"),
    ],
)
def test_a_missing_result_is_one_line_and_leaves_the_old_pages(
    project: Path, write: Write, path: str, command: str
) -> None:
    write()
    before = {each: each.read_bytes() for each in (project / "reports").glob("*.html")}
    (project / path).unlink()
    with pytest.raises(DataError, match=f"{re.escape(path)}: not found; `{command}`") as caught:
        write(datasets=["digits"])
    assert "\n" not in str(caught.value)
    assert {each: each.read_bytes() for each in (project / "reports").glob("*.html")} == before


def test_before_any_comparison_the_page_says_so(tmp_path: Path, params: Params) -> None:
    with pytest.raises(DataError, match="no comparison yet"):
        page.write(params, tmp_path)


def test_nothing_chosen_is_said(edit: Edit, write: Write) -> None:
    edit("digits", lambda value: value.update(chosen=None, passed=False, comparisons=[], gates=[]))
    pages = write()
    assert "No variant was chosen" in pages["digits"]
    assert "no variant was chosen" in pages["index"]
    assert 'id="card"' not in pages["digits"]


def test_curves_that_break_off_are_drawn_without_what_is_not_a_number(project: Path, write: Write) -> None:
    path = project / "results/train/digits/sparse/curves.csv"
    path.write_text("step,seed,objective,stop\n50,0,2.0,nan\n100,0,inf,1.0\n150,0,1.5,0.9\n")
    text = write()["digits"]
    assert not np.any([word in text for word in ('"nan', " nan ", "inf ")])


def test_terms_of_a_variants_own_are_panels_where_they_move(trees: dict[str, Node], finished: Path) -> None:
    figure = next(node for node in trees["digits"].all("figure") if len(node.all("figcaption")) == 2)
    objectives, terms = (node for node in figure.all("div") if "curves" in node.attributes.get("class", ""))
    assert len(objectives.all("svg")) == 9
    (panel,) = terms.all("div")
    assert " ".join(panel.words.split()).startswith("adversarial discriminator accuracy")
    assert len(terms.all("svg")) == 1
    accuracy = curves("digits", "adversarial", finished)["discriminator_accuracy"]
    assert accuracy[3][0] == (50, None, 0.9)
    assert list(accuracy) == list(range(5))


def test_what_a_loss_puts_first_is_a_table_where_it_is_measured(
    project: Path, write: Write, pages: Pages
) -> None:
    assert "What a loss puts first" not in pages["index"]

    def row(number: str, remedy: str, mean: float, verdict: str, topic: str = "losses") -> dict[str, Any]:
        return {
            "topic": topic, "warning": topic, "number": number, "remedy": remedy, "verdict": verdict,
            "without": {"mean": 0.2}, "remedied": {"mean": mean},
        }  # fmt: skip

    rows = [
        row("blur", "huber", 0.3, "hurts"), row("blur", HOSTILE, 0.1, "helps"),
        row("tails", "huber", 0.21, "no effect shown"), row("tails", HOSTILE, 0.4, "hurts"),
        row("blur", "decay", 0.4, "helps", "overcomplete"),
    ]  # fmt: skip
    write_json(project / "benchmarks/remedies.json", {"rows": rows})
    tree = Tree(write()["index"]).root
    part = next(node for node in tree.all("section") if "losses" in node.attributes["aria-labelledby"])
    assert part.all("details")
    head, *lines = [
        [cell.words for cell in line.all("th") + line.all("td")] for line in part.all("table")[0].all("tr")
    ]
    assert head == ["left by", "gaussian, learned variance", "huber", HOSTILE]
    assert lines == [["blur", "0.200", "0.300 ↑", "0.100 ↓"], ["tails", "0.200", "0.210", "0.400 ↑"]]
    write_json(project / "benchmarks/remedies.json", {"rows": rows[-1:]})
    assert "What a loss puts first" not in write()["index"]


def test_the_splits_are_shown_with_what_was_kept_together(trees: dict[str, Node]) -> None:
    tree = trees["digits"]
    (table,) = [
        node
        for node in tree.all("table")
        if [cell.words for cell in node.all("th")][:5] == ["class", "train", "stop", "calibration", "test"]
    ]
    assert [cell.words for cell in table.all("tr")[2].all("td")] == ["0", "1", "2", "3"]
    assert "4 that equal it, 3 of its group or that look like it" in tree.words


def test_the_run_is_named_and_linked_where_a_server_is(
    write: Write, pages: Pages, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = f"{3:064x}"  # that of the chosen denoising
    assert f"tags.`latentops.content_hash` = '{run}'" in pages["digits"]
    assert "<code>make ui</code> opens MLflow" in pages["digits"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://someone:secret@127.0.0.1:5000")
    text = write()["digits"]
    assert '<a href="http://127.0.0.1:5000">MLflow</a>' in text
    assert "secret" not in text


def test_before_record_the_page_says_how_to_get_a_run(project: Path, write: Write) -> None:
    (project / "results/record/digits.json").unlink()
    assert "not recorded yet; <code>make record</code> does" in write()["digits"]


def test_the_champion_is_the_ledgers_last_line(project: Path, write: Write) -> None:
    assert "champion: version" not in write()["index"]
    path = project / ledger.LEDGER
    path.parent.mkdir()
    entry = {"dataset": "digits", "variant": "sparse", "seed": 1, "content_hash": "ab" * 32, "when": "then"}
    entry |= {"event": "promote"}
    lines = [entry | {"version": 1}, entry | {"version": 2}, entry | {"version": 9, "dataset": "other"}]
    lines += [entry | {"version": 3, "event": "hold"}, entry | {"version": 3, "event": "reject"}]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    pages = write()
    assert "champion: version 2, sparse" in pages["index"]
    assert "version 2: sparse, seed 1, since then" in pages["digits"]
    assert "of earlier results" in pages["digits"], "what was chosen now has another hash"


def test_the_model_card_is_whole_and_its_text_stays_text(edit: Edit, write: Write) -> None:
    def rename(value: dict[str, Any]) -> None:
        value["gates"][0]["gate"] = HOSTILE

    edit("digits", rename)
    tree = Tree(write()["digits"]).root
    (part,) = [node for node in tree.all("section") if node.attributes["id"] == "card"]
    assert [head.words for head in part.all("h4")] == CARD_SECTIONS
    assert HOSTILE in " ".join(part.words.split())


def test_sweeps_that_were_made_are_linked(project: Path, write: Write) -> None:
    place = project / "var/sweep/digits-sparse.html"
    place.parent.mkdir(parents=True)
    place.write_text("sweep")
    assert 'href="../var/sweep/digits-sparse.html"' in write()["digits"]
