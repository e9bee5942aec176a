"""What a reviewer finds in MLflow's own pages, by a real browser on a real store."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from docs import review
from latentops.config import load_params
from latentops.registry import store, tracking, versions
from latentops.registry.champion import promote
from latentops.registry.gates import Gate
from latentops.reporting.profiles import drawings

pytest.importorskip("playwright.sync_api")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (shutil.which("chromium") or shutil.which("google-chrome")), reason="chromium isn't installed"
    ),
]


def card(model: str, gates: Sequence[Gate]) -> str:
    told = "\n".join(f"- {gate.gate}: {gate.text}" for gate in gates)
    return f"# A card of {model}\n\nNot for rows of another table.\n\n{told}\n"


def test_a_reviewer_finds_the_champion_its_card_its_gates_and_its_figures(
    project: Path,
) -> None:
    tracking.record("table", load_params(), drawings)
    promote("table", card=card)
    version = versions.resolve("table@champion")
    experiment = store.connect().get_run(version.run_id).info.experiment_id
    picture = project / "page.png"
    with review.ui(store.tracking_uri()) as address, review.browser() as page:
        page.goto(f"{address}/#/models")
        page.get_by_role("link", name="table-autoencoder").click()
        page.get_by_text("@ champion").first.wait_for()
        page.get_by_role("link", name="Version 1").click()
        page.get_by_role("heading", name="A card of table/1").wait_for()
        assert page.get_by_text("@ champion").first.is_visible()
        assert page.get_by_text("beats pca-3 by 0.04").is_visible()
        page.get_by_text("gate.parity").first.wait_for()
        page.get_by_role("link", name="variational", exact=True).click()
        page.get_by_text("probe_accuracy").first.wait_for()
        run = f"{address}/#/experiments/{experiment}/runs/{version.run_id}/artifacts"
        page.goto(f"{run}/figures/kl_by_unit.svg")
        page.wait_for_function("[...document.images].some((image) => image.naturalWidth > 100)")
        page.goto("about:blank")  # of the same run it would go on showing the figure
        page.goto(f"{run}/gates/version-1.json")
        page.get_by_text("beats pca-3 by 0.04").first.wait_for()
        review.picture(page, address, version.model, version.number, picture)
    with Image.open(picture) as drawn:
        assert drawn.width == review.WIDTH
        assert drawn.height >= review.HEIGHT
