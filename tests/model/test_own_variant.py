"""Variants of one's own: where they are found, what is refused, and what is told of them."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import pytest
import yaml
from pydantic import Field

from latentops import variants
from latentops.errors import ConfigError, UnknownNameError
from latentops.variants import NAMES, catalogue, known, variant_class, variant_file
from latentops.variants.autoencoder import VariantSettings
from latentops.variants.catalogue import Option

PLAIN = '''"""Plain: nothing new (Nobody & Noone 1999)."""
from latentops.variants.autoencoder import Autoencoder as Base
class Variant(Base):
    """Plain."""
'''
Put = Callable[[str, str], Path]


@pytest.fixture
def put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Put:
    """Write a file into a folder of variants that stands in for the project's."""
    folder = tmp_path / "variants"
    folder.mkdir()
    monkeypatch.setattr(variants, "FOLDER", folder)
    monkeypatch.setattr(variants, "__path__", [str(folder), *variants.__path__])

    def write(name: str, text: str) -> Path:
        monkeypatch.delitem(sys.modules, f"latentops.variants.{name}", raising=False)
        (folder / f"{name}.py").write_text(text)
        return folder / f"{name}.py"

    return write


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Install a package whose module `made_variant` offers a variant under the given names."""

    def offer(*names: str) -> Path:
        site = tmp_path / "site"
        facts = site / "made_variant-1.0.dist-info"
        facts.mkdir(parents=True)
        (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: made-variant\nVersion: 1.0\n")
        lines = [f"{name} = made_variant:Variant" for name in names]
        (facts / "entry_points.txt").write_text("\n".join(["[latentops.variants]", *lines, ""]))
        (site / "made_variant.py").write_text(PLAIN)
        monkeypatch.syspath_prepend(site)
        variants._installed.cache_clear()
        return site

    yield offer
    sys.modules.pop("made_variant", None)
    monkeypatch.undo()
    variants._installed.cache_clear()


def test_the_nine_come_first_and_are_files() -> None:
    assert known()[: len(NAMES)] == list(NAMES)
    assert all(variant_file(name) is not None for name in NAMES)


def test_a_file_that_defines_a_variant_is_one_and_its_helpers_are_not(put: Put) -> None:
    path = put("plain", PLAIN)
    put("penalties", "def penalty(): pass\n")
    assert known() == [*NAMES, "plain"]
    assert variant_class("plain").__doc__ == "Plain."
    assert variant_file("plain") == path
    with pytest.raises(UnknownNameError, match=r"penalties\.py: defines no class Variant.*known: under"):
        variant_class("penalties")


def test_an_unknown_name_is_answered_with_the_nearest_and_the_place(put: Put) -> None:
    put("plain", PLAIN)
    with pytest.raises(
        UnknownNameError, match=r"'plane' \(did you mean 'plain'.* file .*plane\.py"
    ) as caught:
        variant_class("plane")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["../config", "autoencoder.x", "", "a b"])
def test_a_name_that_is_no_name_opens_no_file(name: str) -> None:
    with pytest.raises(UnknownNameError, match="unknown variant"):
        variant_class(name)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "import nowhere_at_all\nclass Variant: pass\n",
            r"can't be imported: ModuleNotFoundError: No",
        ),
        ("class Variant(\n", r"can't be imported: SyntaxError"),
        ("class Variant:\n    pass\n", r"must be a class derived from Autoencoder"),
        ("Variant = 3\n", r"must be a class derived from Autoencoder"),
        (PLAIN + "    Settings = dict\n", r"Settings must be a class derived from VariantSettings"),
    ],
)
def test_a_file_that_is_no_variant_is_one_line_that_names_it(put: Put, text: str, told: str) -> None:
    put("broken", text)
    with pytest.raises(ConfigError, match=rf"broken\.py: .*{told}") as caught:
        variant_class("broken")
    assert "\n" not in str(caught.value)


def test_an_installed_one_is_found_by_its_entry_point(install: Callable[[str], Path]) -> None:
    install("plain")
    assert known()[-1] == "plain"
    assert variant_class("plain").__module__ == "made_variant"
    assert variant_file("plain") is None
    assert catalogue.describe("plain").origin == "package made_variant"


def test_a_name_is_there_once(put: Put, install: Callable[[str], Path]) -> None:
    install("plain")
    put("plain", PLAIN)
    with pytest.raises(ConfigError, match=r"'plain' is there twice, in .*plain\.py and the installed"):
        variant_class("plain")


def test_no_package_takes_a_name_of_the_nine(install: Callable[[str], Path]) -> None:
    install("sparse")
    with pytest.raises(ConfigError, match=r"'sparse' is there twice"):
        variant_class("sparse")


def test_a_file_may_name_the_class_that_a_package_offers(put: Put, install: Callable[[str], Path]) -> None:
    install("plain")
    put("plain", "from made_variant import Variant\n")
    assert variant_class("plain").__module__ == "made_variant"


def test_check_asks_for_the_file_that_dvc_goes_by(
    root: Path, tmp_path: Path, install: Callable[[str], Path]
) -> None:
    site = install("plain")
    params = yaml.safe_load((root / "params.yaml").read_text())
    params["variants"]["plain"] = {}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    command = "import sys; sys.path.insert(0, sys.argv.pop()); from latentops import cli; cli.main()"
    ended = subprocess.run(
        [sys.executable, "-c", command, "check", str(site)],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 1
    assert "variants.plain is installed, but DVC goes by a file" in ended.stderr
    assert "with the line `from made_variant import Variant`" in ended.stderr
    assert ended.stderr.count("\n") == 1


class Inner(VariantSettings):
    """`depth`: how deep; `ends`: where, or nowhere. More of it."""

    depth: Annotated[int, Field(gt=0, le=5)] = 2
    ends: Literal["left", "right"] | None = None
    sizes: list[Annotated[float, Field(ge=0.5)]] = [1.0]  # noqa: RUF012
    on: bool = False
    share: float


def test_options_are_told_with_their_values_limits_defaults_and_meaning() -> None:
    shared, *own = catalogue.options(Inner)
    assert shared == catalogue.options(VariantSettings)[0]
    assert own == [
        Option("depth", "integer > 0, ≤ 5", "2", "how deep"),
        Option("ends", "left | right or null", "null", "where, or nowhere. More of it"),
        Option("sizes", "list of number ≥ 0.5", "[1.0]", ""),
        Option("on", "true | false", "false", ""),
        Option("share", "number", "required", ""),
    ]


@pytest.mark.parametrize("name", NAMES)
def test_each_of_the_nine_has_a_line_a_source_and_its_options(name: str) -> None:
    entry = catalogue.describe(name)
    assert entry.origin == "built in"
    assert name.removesuffix("al") in entry.line.lower()
    assert entry.sources
    shared = set(VariantSettings.model_fields)
    assert {option.key for option in entry.options} >= set(variant_class(name).Settings.model_fields) - shared
    assert all(option.meaning for option in entry.options)


def test_citations_are_found_as_they_are_written() -> None:
    text = "(Kingma & Welling 2014, eq. 10), Makhzani et al. 2016, Bengio, Yao & Vincent (2013), 1 to 2000"
    assert catalogue.CITATION.findall(text) == [
        "Kingma & Welling 2014",
        "Makhzani et al. 2016",
        "Bengio, Yao & Vincent (2013",
    ]


@pytest.mark.parametrize("name", NAMES)
def test_every_option_says_what_it_means(name: str) -> None:
    entry = catalogue.describe(name)
    silent = [option.key for option in entry.options if option.key != "architecture" and not option.meaning]
    assert silent == []
