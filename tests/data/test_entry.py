"""An entry is put into params.yaml as text: all else stays as it was, comments and all."""

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from difflib import SequenceMatcher
from pathlib import Path

import pytest
import yaml

from latentops.config import Dataset as DatasetSettings
from latentops.config import Expectations, File, Read, Scaling, Settings, Source, Split, load_params, parse
from latentops.data import entry
from latentops.errors import ConfigError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def params(tmp_path: Path) -> Path:
    return Path(shutil.copy(ROOT / "params.yaml", tmp_path))


def settings() -> dict[str, object]:
    value = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))["datasets"]["breast_cancer"]
    assert isinstance(value, dict)
    return value


def test_what_is_written_is_what_is_read(params: Path) -> None:
    entry.add(params, "mine", entry.text("mine", settings(), "a title: with # marks", {"x": "odd"}))
    read = load_params(params)
    assert read.datasets["mine"] == parse(DatasetSettings, settings(), "mine")
    assert read.run.datasets[-1] == "mine"


def test_nothing_else_in_the_file_changes(params: Path) -> None:
    before = params.read_text(encoding="utf-8").splitlines()
    text = entry.text("mine", settings(), "title", {})
    entry.add(params, "mine", text)
    after = params.read_text(encoding="utf-8").splitlines()
    changes = [op for op in SequenceMatcher(None, before, after, False).get_opcodes() if op[0] != "equal"]
    (_, start, end, *_), (added, _, _, low, high) = changes
    assert [line.split(":")[0] for line in before[start:end]] == ["  datasets"]
    assert added == "insert"
    assert sorted(after[low:high]) == sorted([*text.splitlines(), ""])


def test_two_entries_follow_each_other(params: Path) -> None:
    for name in ("mine", "yours"):
        entry.add(params, name, entry.text(name, settings(), "title", {}))
    assert load_params(params).run.datasets[-2:] == ["mine", "yours"]


def test_datasets_may_be_listed_a_line_each(params: Path) -> None:
    value = yaml.safe_load(params.read_text(encoding="utf-8"))
    params.write_text(yaml.safe_dump(value, sort_keys=False), encoding="utf-8")
    entry.add(params, "mine", entry.text("mine", settings(), "title", {}))
    assert load_params(params).run.datasets == [*value["run"]["datasets"], "mine"]
    assert load_params(params).run.variants == value["run"]["variants"]


def test_an_entry_that_is_there_or_cannot_be_used_leaves_the_file_as_it_was(params: Path) -> None:
    before = params.read_bytes()
    with pytest.raises(ConfigError, match=r"datasets\.digits is there already"):
        entry.add(params, "digits", entry.text("digits", settings(), "title", {}))
    broken = {**settings(), "latent_dim": 0}
    with pytest.raises(ConfigError, match="latent_dim"):
        entry.add(params, "mine", entry.text("mine", broken, "title", {}))
    assert params.read_bytes() == before


def test_remarks_stand_beside_their_columns() -> None:
    source = {"name": "file", "columns": {"a, b": "numeric", "yes": "boolean"}, "drop": ["id"]}
    text = entry.text("x", {"source": source}, "t", {"yes": "12 % missing", "id": "the row's number"})
    lines = {line.split("#")[0].strip(): line for line in text.splitlines()}
    assert lines["'yes': boolean"].endswith("# 12 % missing")
    assert lines["- id"].endswith("# the row's number")
    assert yaml.safe_load(text)["x"]["source"] == source


def test_every_key_of_an_entry_says_what_it_means() -> None:
    sections: dict[str, type[Settings]] = {
        "": DatasetSettings,
        "source.": Source,
        "source.files.": File,
        "source.read.": Read,
        "expectations.": Expectations,
        "scaling.": Scaling,
        "split.": Split,
    }
    assert set(entry.COMMENTS) == {
        f"{prefix}{key}" for prefix, model in sections.items() for key in model.model_fields
    }


def test_each_line_that_is_written_has_its_meaning_beside_it() -> None:
    for line in entry.text("mine", settings(), "title", {}).splitlines():
        key = line.split(":")[0].strip()
        assert "  # " in line or key in settings()["expectations"]["columns"], line  # type: ignore[index]


def block(text: str) -> str:
    return yaml.safe_dump(yaml.safe_load(text), sort_keys=False)


def last(text: str) -> str:
    sections = yaml.safe_load(text)
    return yaml.safe_dump(sections | {"datasets": sections.pop("datasets")}, sort_keys=False).rstrip("\n")


@pytest.mark.parametrize(
    "write",
    [
        block,
        last,
        lambda text: yaml.safe_dump(yaml.safe_load(text), sort_keys=False, indent=4),
        lambda text: text.replace("\n", "\r\n"),
        lambda text: block(text) + "# the end\n\n",
        lambda text: block(text).replace("\nvariants:", "\n\n# of variants\nvariants:"),
        lambda text: block(text).replace("  - breast_cancer", "  # the second\n  - breast_cancer  # here"),
    ],
)
def test_every_way_to_write_the_file_stays_as_it_is(params: Path, write: Callable[[str], str]) -> None:
    before = write(params.read_text(encoding="utf-8"))
    params.write_bytes(before.encode())
    for name in ("mine", "yours"):
        entry.add(params, name, entry.text(name, settings(), "title", {}))
    after = params.read_bytes().decode()
    assert load_params(params).run.datasets[-2:] == ["mine", "yours"]
    assert ("\r\n" in after) == ("\r\n" in before)
    assert "\n" not in after.replace("\r\n", "") or "\r" not in after
    lines = iter(after.splitlines())
    kept = [line for line in before.splitlines() if not line.strip().startswith("datasets: [")]
    assert all(line in lines for line in kept)  # in their order
    if "# of variants" in after:
        assert "# of variants\nvariants:" in after
    entry.remove(params, "mine")
    assert load_params(params).run.datasets[-1:] == ["yours"]
    entry.remove(params, "yours")
    assert params.read_bytes() == before.encode(), "what was put in is taken out, and nothing else"


def test_what_is_written_in_braces_is_refused(params: Path) -> None:
    value = yaml.safe_load(params.read_text(encoding="utf-8"))
    params.write_text(yaml.safe_dump(value, default_flow_style=True))
    before = params.read_bytes()
    with pytest.raises(ConfigError, match="written in braces"):
        entry.add(params, "mine", entry.text("mine", settings(), "title", {}))
    assert params.read_bytes() == before


def test_of_many_at_once_none_is_lost(params: Path) -> None:
    names = [f"mine{at}" for at in range(6)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda name: entry.add(params, name, entry.text(name, settings(), "t", {})), names))
    assert sorted(load_params(params).run.datasets[-6:]) == names
