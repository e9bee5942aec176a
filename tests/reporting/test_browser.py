"""The report in a real browser: what a reader sees, reaches by keyboard, and never asks the network for."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from latentops import costs
from latentops.config import Params
from latentops.registry import looks
from latentops.registry.looks import Look
from latentops.reporting import page as report
from tests.reporting.conftest import build, train

sync_api = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
PAGES = ("index", "costs", "drift", "digits", "breast_cancer", "digit_columns")
PATIENCE = 180_000  # milliseconds, for a browser that starts beside other tests
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 900}

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium isn't installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, params: Params) -> Path:
    """A report with pictures of models, and with data docs and a sweep to link to."""
    root = train(build(tmp_path_factory.mktemp("seen")), params)
    for linked in ("var/data_docs/digits/index.html", "var/sweep/digits-sparse.html"):
        (root / linked).parent.mkdir(parents=True, exist_ok=True)
        (root / linked).write_text("<!doctype html><title>linked</title>")
    for seconds in (4.0, 5.0):
        costs.write("train@digits-sparse", seconds, 3.0, 300 * 2**20, root)
    moved = {"of": "codes", "test": "kernel", "statistic": 0.1, "p_value": 0.001, "corrected": 0.004}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        for is_moved in (False, True):
            found = {"rows": 20, "known": 90, "tests": 4, "drifted": is_moved}
            looks.keep(
                Look("digits", "score", ["a.csv"], 1, {**found, "findings": [{**moved, "moved": is_moved}]})
            )
    return report.write(params, root).parent


@pytest.fixture(scope="module")
def browser() -> Iterator["sync_api.Browser"]:
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-background-networking"]
        )
        yield started
        started.close()


class Visit:
    """A page that was opened, with all that the browser complained of or asked another host for."""

    def __init__(self, context: "sync_api.BrowserContext", folder: Path) -> None:
        self.folder, self.complaints, self.asked = folder, [], []
        context.set_default_timeout(PATIENCE)
        self.page = context.new_page()
        self.page.on("console", lambda said: self.complaints.append(said.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

        def answer(route: "sync_api.Route") -> None:
            if route.request.url.startswith("file:"):
                route.continue_()
            else:
                self.asked.append(route.request.url)
                route.abort()

        context.route(re.compile("^(?!data:)"), answer)

    def open(self, name: str) -> "sync_api.Page":
        self.page.goto((self.folder / f"{name}.html").as_uri())
        return self.page


@pytest.fixture
def visit(browser: "sync_api.Browser", folder: Path) -> Iterator[Visit]:
    with browser.new_context(viewport=DESK) as context:
        made = Visit(context, folder)
        yield made
        assert not made.complaints
        assert not made.asked


@pytest.mark.parametrize("name", PAGES)
def test_every_page_is_whole_on_a_desk_and_on_a_phone(visit: Visit, name: str) -> None:
    """No complaint, no request, every picture there and nothing wider than the screen."""
    page = visit.open(name)
    broken = "[...document.images].filter((image) => !image.complete || !image.naturalWidth).length"
    for size in (DESK, PHONE):
        page.set_viewport_size(size)
        assert page.evaluate(broken) == 0
        assert page.evaluate("document.documentElement.scrollWidth") == size["width"]
    if name == "digits":
        assert page.evaluate("document.images.length") > 10


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES[:2])
def test_no_rule_of_accessibility_is_broken(visit: Visit, name: str, scheme: str) -> None:
    """Contrast, names of drawings, pictures and controls, order of headings, what is reached by keyboard."""
    page = visit.open(name)
    page.emulate_media(color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    found = axe.Axe().run(page, options={"resultTypes": ["violations"]})
    assert not found.response["violations"], found.generate_report()


def column(page: "sync_api.Page", metric: str) -> list[float]:
    """The values of a metric in the rows that are shown, in their order."""
    cells = page.locator(f"table.board tbody tr:visible td[data-metric={metric}]")
    found = cells.evaluate_all("all => all.map((cell) => cell.dataset.value)")
    return [float(value) for value in found if value]


def test_the_board_sorts_by_click_and_by_keyboard(visit: Visit) -> None:
    page = visit.open("index")
    head = page.locator("table.board th", has=page.get_by_role("button", name="AUROC"))
    button = head.first.get_by_role("button")
    button.click()
    assert head.first.get_attribute("aria-sort") == "descending"
    falling = column(page, "auroc")
    assert falling == sorted(falling, reverse=True)
    button.focus()
    page.keyboard.press("Enter")
    assert head.first.get_attribute("aria-sort") == "ascending"
    assert column(page, "auroc") == sorted(falling)
    assert page.locator("table.board th[aria-sort]").count() == 1
    page.get_by_role("button", name="reconstruction error").click()
    errors = column(page, "reconstruction_error")
    assert errors == sorted(errors), "the best first, which is the least"


def test_filters_leave_what_they_say(visit: Visit) -> None:
    page = visit.open("index")
    rows = page.locator("table.board tbody tr:visible")
    said = page.locator("form.filters output")
    assert rows.count() == 3 * (9 + 7 + 1), "untrained encoders of variants not chosen come on demand"
    assert said.inner_text() == "51 of 75 rows"
    page.get_by_label("untrained encoders").check()
    assert rows.count() == 75
    page.locator("[data-by=dataset]").select_option("digits")
    assert rows.count() == 25
    page.locator("[data-by=role]").select_option("variant")
    assert rows.count() == 9
    page.locator("[data-by=text]").fill("Auto OR nothing")
    assert said.inner_text() == "0 of 75 rows"
    page.locator("[data-by=text]").fill("sp DIGITS")
    assert rows.evaluate_all("all => all.map((row) => row.dataset.name)") == ["sparse"]
    page.locator("[data-by=dataset]").select_option("")
    page.locator("[data-by=kind]").select_option("tabular")
    page.locator("[data-by=text]").fill("")
    names = set(rows.evaluate_all("all => all.map((row) => row.dataset.dataset)"))
    assert names == {"breast_cancer"}


def test_further_metrics_come_on_demand(visit: Visit) -> None:
    page = visit.open("digits")
    head = page.locator("table.board th", has_text="AUROC, code")
    assert not head.is_visible()
    page.get_by_label("all metrics").check()
    assert head.is_visible()
    assert column(page, "auroc_latent")


def test_the_tabulator_key_reaches_filters_heads_and_drawings(visit: Visit) -> None:
    page = visit.open("digits")
    reached = []
    where = "(document.activeElement.closest('th, form, svg, .skip') ?? document.body).nodeName.toLowerCase()"
    for _ in range(400):
        page.keyboard.press("Tab")
        reached.append(page.evaluate(where))
        if reached[-1] == "svg":
            break
    assert reached[0] == "a"
    assert {"form", "th", "svg"} <= set(reached)
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_a_mark_tells_its_value_under_the_pointer_and_by_the_arrow_keys(visit: Visit) -> None:
    page = visit.open("digits")
    tip, scatter = page.locator(".tip"), page.locator("#code svg.plot").first
    assert not tip.is_visible()
    scatter.locator("circle.chosen").hover()
    assert tip.inner_text().startswith("denoising: ")
    page.mouse.move(0, 0)
    assert not tip.is_visible()
    scatter.focus()
    page.keyboard.press("Home")
    first = tip.inner_text()
    page.keyboard.press("ArrowRight")
    assert tip.is_visible()
    assert tip.inner_text() != first
    assert scatter.locator(".spot").count() == 1
    page.keyboard.press("Escape")
    assert not tip.is_visible()
    assert scatter.locator("title").count() == 0, "the browser's own would show beside it"


def test_a_point_of_a_line_tells_the_value_that_it_was_drawn_from(visit: Visit) -> None:
    page = visit.open("digits")
    panel = page.locator("#training svg.plot", has=page.locator("path[data-name]")).first
    panel.focus()
    page.keyboard.press("End")
    found = re.fullmatch(
        r"seed \d, (train|stop) rows: step 1000, ([\d.]+)", page.locator(".tip").inner_text()
    )
    assert found
    assert float(found[2]) == pytest.approx(20.3, abs=1.5), "20 on the training rows at the end, 21.2 on stop"


def test_a_finger_shows_a_mark_too(browser: "sync_api.Browser", folder: Path) -> None:
    with browser.new_context(viewport=PHONE, has_touch=True, is_mobile=True) as context:
        page = Visit(context, folder).open("digits")
        mark = page.locator("#anomalies svg.histogram rect.normal").first
        mark.scroll_into_view_if_needed()
        mark.tap(force=True)
        assert re.search(r"\d of \d+ normal", page.locator(".tip").inner_text())
        box = page.locator(".tip").bounding_box()
        assert box
        assert 0 <= box["x"] <= box["x"] + box["width"] <= PHONE["width"]


def test_without_script_everything_is_shown(browser: "sync_api.Browser", folder: Path) -> None:
    with browser.new_context(viewport=DESK, java_script_enabled=False) as context:
        page = Visit(context, folder).open("index")
        assert page.locator("table.board tbody tr:visible").count() == 75
        assert not page.locator("form.filters").is_visible()
        assert page.locator("table.board th", has_text="AUROC, code").is_visible()
