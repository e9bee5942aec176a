"""Take the picture of `docs/review.md`: `python docs/review.py DATASET` on a store that holds a challenger.

It is MLflow's own page of the version, as headless Chromium draws it from a server on this machine.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.error import URLError
from urllib.request import urlopen

import typer
from PIL import Image

from latentops import atomic
from latentops.cli import guard
from latentops.errors import LatentOpsError
from latentops.registry import store, versions

if TYPE_CHECKING:
    from playwright.sync_api import Page

PICTURE = Path("docs/review.png")
WIDTH, HEIGHT, COLOURS = 1280, 900, 64
GREETINGS = [
    "_mlflow_model_registry_promo_modal_dismissed_v1",
    "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1",
]
"""What MLflow lays over its pages for who comes for the first time, unless told that it was seen."""
PATIENCE = 120  # seconds, for a server and a browser that start beside other work


@contextmanager
def ui(uri: str) -> Iterator[str]:
    """The address of MLflow's pages on the store `uri`: that, if it is a server, else of one started here."""
    if store.is_server(uri):
        yield uri
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    command = ("mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1")
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command, "--backend-store-uri", uri],
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            _expect(address, process)
            yield address
        finally:
            process.terminate()
            process.wait()


def _expect(address: str, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < until:
        try:
            with urlopen(f"{address}/health", timeout=5):  # noqa: S310
                return
        except (URLError, OSError):
            time.sleep(0.25)
    raise LatentOpsError(f"MLflow did not start at {address}; try `make ui`")


@contextmanager
def browser() -> Iterator["Page"]:
    """A page of headless Chromium that MLflow doesn't greet; `LatentOpsError` where there is no Chromium."""
    from playwright.sync_api import sync_playwright

    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        raise LatentOpsError("no Chromium here: install it, such as with `apt-get install chromium`")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        page = started.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.set_default_timeout(1000 * PATIENCE)
        page.add_init_script(f"for (const key of {GREETINGS}) localStorage.setItem(key, 'true')")
        yield page
        started.close()


def picture(page: "Page", address: str, model: str, number: int, path: Path) -> None:
    """Write MLflow's page of version `number` of `model`, from its top to its last tag, to `path` as PNG."""
    page.goto(f"{address}/#/models/{model}/versions/{number}")
    page.get_by_text("gate.").first.wait_for()  # the tags, which come last
    # The page scrolls inside itself: as high as its highest part, it is on one picture.
    tall = "Math.max(...[...document.querySelectorAll('*')].map((each) => each.scrollHeight))"
    page.set_viewport_size({"width": WIDTH, "height": int(page.evaluate(tall)) + 60})
    shot = page.screenshot(type="png", animations="disabled")
    with Image.open(BytesIO(shot)) as drawn, atomic.replacing(path) as aside:
        drawn.convert("RGB").quantize(COLOURS).save(aside, format="png", optimize=True)


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(dataset: str, alias: Annotated[str, typer.Option()] = versions.CHALLENGER) -> None:
    """Take the picture of DATASET's challenger, or of another alias of its model."""
    version = versions.resolve(f"{dataset}@{alias}")
    with ui(store.tracking_uri()) as address, browser() as page:
        picture(page, address, version.model, version.number, PICTURE)
    print(f"wrote {PICTURE}")


if __name__ == "__main__":
    guard(app)
