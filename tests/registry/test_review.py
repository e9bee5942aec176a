"""What a reviewer finds in MLflow's own pages, by a real browser on a real store."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from docs import review
from latentops.config import load_params
from latentops.registry import store, tracking, versions
from latentops.registry.champion import promote
from latentops.reporting.profiles import drawings

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
CARD = "# A card of the table\n\nNot for rows of another table.\n"
PATIENCE = 600_000  # milliseconds, for a browser that starts beside other tests

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="chromium isn't installed")]


@pytest.fixture
def page() -> Iterator["sync_api.Page"]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        opened = browser.new_page(viewport={"width": 1280, "height": 900})
        opened.set_default_timeout(PATIENCE)
        yield opened
        browser.close()


def test_a_reviewer_finds_the_champion_its_card_its_gates_and_its_figures(
    project: Path, page: "sync_api.Page"
) -> None:
    tracking.record("table", load_params(), drawings)
    promote("table", card=CARD)
    version = versions.resolve("table@champion")
    experiment = store.connect().get_run(version.run_id).info.experiment_id
    with review.ui(store.tracking_uri()) as address:
        page.goto(f"{address}/#/models")
        page.get_by_role("link", name="table-autoencoder").click()
        page.get_by_text("@ champion").first.wait_for()
        page.get_by_role("link", name="Version 1").click()
        page.get_by_role("heading", name="A card of the table").wait_for()
        assert page.get_by_text("@ champion").first.is_visible()
        assert page.get_by_text("beats pca-3 by 0.04").is_visible()
        page.get_by_text("gate.parity").first.wait_for()
        page.get_by_role("link", name="variational").click()
        page.get_by_text("probe_accuracy").first.wait_for()
        run = f"{address}/#/experiments/{experiment}/runs/{version.run_id}/artifacts"
        page.goto(f"{run}/figures/kl_by_unit.svg")
        page.wait_for_function("[...document.images].some((image) => image.naturalWidth > 100)")
        page.goto(f"{run}/gates/version-1.json")
        page.get_by_text("beats pca-3 by 0.04").first.wait_for()
        picture = project / "page.png"
        review.picture(address, version.model, version.number, picture)
    with Image.open(picture) as drawn:
        assert drawn.width == review.WIDTH
        assert drawn.height >= review.HEIGHT
