import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latentops.atomic import write_json
from latentops.errors import DataError
from latentops.reporting import page
from latentops.reporting.leaderboard import interval, number
from latentops.reporting.results import comparison, curves

Edit = Callable[[str, Callable[[dict[str, Any]], None]], None]
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


@pytest.fixture(scope="module")
def text(finished: Path) -> str:
    return page.write(finished).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def tree(text: str) -> Node:
    return Tree(text).root


def test_the_page_is_where_the_makefile_says(finished: Path, text: str) -> None:
    assert (finished / "var/report/index.html").read_text(encoding="utf-8") == text
    assert len(text) < 3_000_000


def test_the_same_results_give_the_same_page(finished: Path, text: str) -> None:
    assert page.write(finished, Path("var/again/index.html")).read_text(encoding="utf-8") == text


def test_nothing_is_asked_of_another_host(tree: Node, text: str) -> None:
    assert "://" not in text
    assert "default-src 'none'" in text
    for tag, attribute in (("img", "src"), ("a", "href"), ("link", "href"), ("script", "src")):
        for node in tree.all(tag):
            address = node.attributes.get(attribute, "#")
            assert address.startswith(("#", "data:image/png", "../")), address
    assert "url(" not in text
    assert "@import" not in text


def test_every_drawing_and_figure_says_what_it_shows(tree: Node) -> None:
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


def test_ids_are_unique_and_links_lead_somewhere(tree: Node) -> None:
    ids = re.findall(
        r' id="([^"]+)"', " ".join(f' id="{n.attributes["id"]}"' for n in walk(tree) if "id" in n.attributes)
    )
    assert len(ids) == len(set(ids))
    for node in tree.all("a"):
        if node.attributes["href"].startswith("#"):
            assert node.attributes["href"][1:] in ids


def walk(node: Node) -> list[Node]:
    return [node, *(below for child in node.children for below in walk(child))]


def section(tree: Node, dataset: str) -> Node:
    return next(
        node for node in tree.all("section") if node.attributes.get("id") == dataset.replace("_", "-")
    )


@pytest.mark.parametrize("dataset", ["digits", "breast_cancer", "digit_columns"])
def test_the_board_holds_the_values_of_the_comparison(finished: Path, tree: Node, dataset: str) -> None:
    board = section(tree, dataset).all("table")[0]
    lines = {line.attributes["data-name"]: line for line in board.all("tr") if "data-name" in line.attributes}
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
            if metric in page.DRAWN:
                assert interval(estimate) in cell.words


def test_health_numbers_are_columns_where_all_have_them_and_facts_where_not(tree: Node) -> None:
    tables = section(tree, "digits").all("table")
    table = next(each for each in tables if each.attributes.get("class") == "health")
    heads = [cell.words for cell in table.all("th") if cell.attributes.get("scope") == "col"]
    assert heads == ["variant", "effective rank", "its own"]
    lines = {line.all("th")[0].words: " ".join(line.words.split()) for line in table.all("tr")}
    assert "dead units 1.000 0.500–1.500" in lines["sparse"]
    assert "6.500" in lines["undercomplete"]
    assert "dead units" not in lines["undercomplete"]
    assert "KL –" in lines["variational"]


def test_the_chosen_variant_and_the_references_ahead_are_marked(tree: Node) -> None:
    board = section(tree, "digits").all("table")[0]
    tags = {
        line.attributes["data-name"]: [
            tag.text for tag in line.all("span") if "tag" in tag.attributes.get("class", "")
        ]
        for line in board.all("tr")
        if "data-name" in line.attributes
    }
    assert {name: words for name, words in tags.items() if words} == {
        "denoising": ["chosen"],
        "raw": ["ahead"],
    }
    assert next(iter(tags)) == "raw"


def test_gates_and_verdicts_are_shown(text: str) -> None:
    assert "no champion: 1 of 5 gates not met" in text
    assert "Not met: beats PCA-8." in text
    assert "passes all 5 gates" in text
    assert "no difference shown" in text
    assert "deception ceased to be a number or was over strain_limit (20) at step 310" in text


def test_without_models_the_page_says_what_is_missing(text: str) -> None:
    assert "No pictures: " in text
    assert "dvc repro prepare@digits" in text


def test_hostile_names_are_text(project: Path, edit: Edit) -> None:
    def rename(value: dict[str, Any]) -> None:
        for row in value["rows"]:
            if row["name"] == "PCA-8":
                row["name"] = HOSTILE
        value["gates"][0]["text"] = HOSTILE

    edit("digits", rename)
    path = project / "results/validate/digits.json"
    value = json.loads(path.read_text())
    write_json(path, {**value, "reasons": {HOSTILE: 3}})
    text = page.write(project).read_text(encoding="utf-8")
    assert "alert(" in text
    assert "<script>alert" not in text
    assert len(Tree(text).root.all("script")) == 1


def test_only_named_datasets_are_shown(finished: Path) -> None:
    text = page.write(finished, Path("var/one/index.html"), ["digits"]).read_text(encoding="utf-8")
    assert "breast_cancer" not in text


def test_data_docs_and_costs_are_shown_where_they_are(project: Path) -> None:
    docs = project / "var/data_docs/digits/index.html"
    docs.parent.mkdir(parents=True)
    docs.write_text("docs")
    for name, seconds in (("train-digits-sparse", 4.0), ("train-digits-variational", 6.5)):
        write_json(
            project / "var/costs" / f"{name}.json",
            {"wall_seconds": seconds, "cpu_seconds": 3.0, "peak_bytes": 300 * 2**20},
        )
    out = page.write(project)
    tree = Tree(out.read_text(encoding="utf-8")).root
    link = next(node for node in tree.all("a") if not node.attributes["href"].startswith("#"))
    assert (out.parent / link.attributes["href"]).resolve() == docs.resolve()
    costs = tree.all("table")[-1].all("tr")[1]
    assert costs.words.split() == ["train", "2", "10.5", "6.5", "300"]


def test_the_data_docs_of_the_version_in_use_come_first(project: Path) -> None:
    folder = project / "var/data_docs/digits"
    for place in (folder, folder / "0123456789ab"):
        place.mkdir(parents=True, exist_ok=True)
        (place / "index.html").write_text("docs")
    assert 'href="../data_docs/digits/index.html"' in page.write(project).read_text(encoding="utf-8")
    outs = [{"path": "data/raw/digits.parquet", "md5": "0123456789abcdef"}]
    (project / "dvc.lock").write_text(json.dumps({"stages": {"ingest@digits": {"cmd": "", "outs": outs}}}))
    assert 'href="../data_docs/digits/0123456789ab/index.html"' in page.write(project).read_text(
        encoding="utf-8"
    )


def test_flags_and_columns_of_the_data_are_shown(project: Path) -> None:
    path = project / "results/validate/digits.json"
    columns = [
        {"name": "size", "missing": 0.125, "constant": False, "predicts": 0.987, "moved": 0.421},
        {"name": "colour", "missing": 0.0, "constant": True},
    ]
    flags = ["size: predicts the label alone", "colour: constant"]
    write_json(path, {**json.loads(path.read_text()), "columns": columns, "flags": flags})
    tree = Tree(page.write(project, datasets=["digits"]).read_text(encoding="utf-8")).root
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
def test_a_missing_result_is_one_line_and_leaves_the_old_page(project: Path, path: str, command: str) -> None:
    out = page.write(project)
    before = out.read_bytes()
    (project / path).unlink()
    with pytest.raises(DataError, match=f"{re.escape(path)}: not found; `{command}`") as caught:
        page.write(project, datasets=["digits"])
    assert "\n" not in str(caught.value)
    assert out.read_bytes() == before


def test_before_any_comparison_the_page_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no comparison yet"):
        page.write(tmp_path)


def test_nothing_chosen_is_said(project: Path, edit: Edit) -> None:
    edit("digits", lambda value: value.update(chosen=None, passed=False, comparisons=[], gates=[]))
    assert "No variant was chosen" in page.write(project).read_text(encoding="utf-8")


def test_curves_that_break_off_are_drawn_without_what_is_not_a_number(project: Path) -> None:
    path = project / "results/train/digits/sparse/curves.csv"
    path.write_text("step,seed,objective,stop\n50,0,2.0,nan\n100,0,inf,1.0\n150,0,1.5,0.9\n")
    text = page.write(project).read_text(encoding="utf-8")
    assert not np.any([word in text for word in ('"nan', " nan ", "inf ")])


def test_terms_of_a_variants_own_are_panels_where_they_move(tree: Node, finished: Path) -> None:
    figure = next(node for node in section(tree, "digits").all("figure") if node.all("h4"))
    objectives, terms = (node for node in figure.all("div") if "curves" in node.attributes.get("class", ""))
    assert len(objectives.all("svg")) == 9
    (panel,) = terms.all("div")
    assert " ".join(panel.words.split()).startswith("adversarial discriminator accuracy")
    assert len(terms.all("svg")) == 1
    accuracy = curves("digits", "adversarial", finished)["discriminator_accuracy"]
    assert accuracy[3][0] == (50, None, 0.9)
    assert list(accuracy) == list(range(5))


def test_what_a_loss_puts_first_is_a_table_where_it_is_measured(project: Path, text: str) -> None:
    assert "What a loss puts first" not in text

    def row(number: str, remedy: str, mean: float, verdict: str, topic: str = "losses") -> dict[str, Any]:
        return {
            "topic": topic, "number": number, "remedy": remedy, "verdict": verdict,
            "without": {"mean": 0.2}, "remedied": {"mean": mean},
        }  # fmt: skip

    rows = [
        row("blur", "huber", 0.3, "hurts"), row("blur", HOSTILE, 0.1, "helps"),
        row("tails", "huber", 0.21, "no effect shown"), row("tails", HOSTILE, 0.4, "hurts"),
        row("blur", "decay", 0.4, "helps", "overcomplete"),
    ]  # fmt: skip
    write_json(project / "benchmarks/remedies.json", {"rows": rows})
    tree = Tree(page.write(project).read_text(encoding="utf-8")).root
    part = next(node for node in tree.all("section") if "losses" in node.attributes["aria-labelledby"])
    assert part.all("details")
    head, *lines = [
        [cell.words for cell in line.all("th") + line.all("td")] for line in part.all("table")[0].all("tr")
    ]
    assert head == ["left by", "gaussian, learned variance", "huber", HOSTILE]
    assert lines == [["blur", "0.200", "0.300 ↑", "0.100 ↓"], ["tails", "0.200", "0.210", "0.400 ↑"]]
    write_json(project / "benchmarks/remedies.json", {"rows": rows[-1:]})
    assert "What a loss puts first" not in page.write(project).read_text(encoding="utf-8")


def test_the_splits_are_shown_with_what_was_kept_together(project: Path) -> None:
    tree = Tree(page.write(project).read_text(encoding="utf-8"))
    tables = [
        node
        for node in tree.root.all("table")
        if [cell.words for cell in node.all("th")][:5] == ["class", "train", "stop", "calibration", "test"]
    ]
    assert len(tables) == 3
    assert [cell.words for cell in tables[0].all("tr")[2].all("td")] == ["0", "1", "2", "3"]
    assert "4 that equal it, 3 of its group or that look like it" in tree.root.words
