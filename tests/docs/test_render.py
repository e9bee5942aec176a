import ast
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import growth as growing
from docs import render
from latentops.atomic import write_json
from latentops.cli import guard
from latentops.errors import DataError, LatentOpsError
from latentops.reporting import leaderboard
from tests.reporting.conftest import DATASETS, VARIANTS, build, comparison

README = Path("README.md")
HOSTILE = [
    "a|b",
    "two\nlines",
    "<script>alert(1)</script>",
    "<!-- leaderboard:end -->",
    "[here](https://example.org)",
    "![x](y)",
    "`code` *bold* _it_ ~~no~~ \\",
]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished project with pages whose sections are empty, as the current folder."""
    build(tmp_path)
    for dataset in DATASETS:
        stop_results(tmp_path, dataset)
    leaderboard.write(list(DATASETS), tmp_path)
    (tmp_path / "docs").mkdir()
    for path, name, _ in render.SECTIONS:
        with (tmp_path / path).open("a", encoding="utf-8") as page:
            page.write(f"Before {name}.\n<!-- {name}:start -->\nold\n<!-- {name}:end -->\nAfter {name}.\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def stop_results(root: Path, dataset: str) -> None:
    rows = comparison(dataset)["rows"]
    for row in rows:
        found = {name: {"values": entry["values"]} for name, entry in row["metrics"].items()}
        stop = {f"stop_{name}": entry for name, entry in found.items() if name in {"probe_accuracy", "auroc"}}
        row |= {"seeds": list(range(row["members"])), "metrics": found | stop}
    own = {name: [row for row in rows if row["name"].removeprefix("untrained ") == name] for name in VARIANTS}
    for name, pair in own.items():
        write_json(root / "results" / "evaluate" / dataset / name / "metrics.json", {"rows": pair})
    floors = [row for row in rows if not any(row in pair for pair in own.values())]
    wide = {**floors[-1], "name": "random ReLU features-128", "latent_dim": 128}
    write_json(root / "results" / "floors" / dataset / "metrics.json", {"rows": [*floors, wide]})


def change(path: Path, how: Callable[[Any], None]) -> None:
    value = json.loads(path.read_text())
    how(value)
    write_json(path, value)


def rename(root: Path, old: str, new: str) -> None:
    """Call the row `old` of the digits `new`, in the comparison and on the board."""

    def named(value: dict[str, Any]) -> None:
        for row in value["rows"]:
            if row["name"] == old:
                row["name"] = new
        if value["chosen"]["variant"] == old:
            value["chosen"]["variant"] = new

    change(root / "results/compare/digits.json", named)
    leaderboard.write(list(DATASETS), root)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit status of `python docs/render.py` with `arguments`."""
    monkeypatch.setattr(sys, "argv", ["render.py", *arguments])
    try:
        guard(render.main)
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def test_every_page_of_the_project_has_its_markers(root: Path) -> None:
    for path, name, _ in render.SECTIONS:
        assert render.filled((root / path).read_text(), name, "", path)


def test_what_was_written_passes_the_check_and_a_second_run_changes_nothing(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set(render.render(project)) == {path for path, _, _ in render.SECTIONS}
    assert render.render(project) == []
    assert run(monkeypatch, "--check") == 0


def test_only_what_is_between_the_markers_is_touched(project: Path) -> None:
    render.render(project)
    text = (project / README).read_text()
    assert text.startswith("Before leaderboard.\n<!-- leaderboard:start -->\n")
    assert text.endswith("\n<!-- leaderboard:end -->\nAfter leaderboard.\n")
    assert "old" not in text


def test_the_check_fails_on_a_changed_number_and_writes_nothing(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    render.render(project)
    page = project / README
    wrong = re.sub(r"0\.9\d\d", "0.999", page.read_text(), count=1)
    page.write_text(wrong)
    assert run(monkeypatch, "--check") == 1
    error = capsys.readouterr().err
    assert error.startswith("error: README.md: not what the results say")
    assert error.count("\n") == 1
    assert page.read_text() == wrong


def test_the_check_fails_when_a_result_changes(project: Path) -> None:
    render.render(project)

    def better(value: dict[str, Any]) -> None:
        value["rows"][0]["metrics"]["probe_accuracy"]["mean"] = 0.987

    change(project / "results/compare/digits.json", better)
    leaderboard.write(list(DATASETS), project)
    assert README in render.render(project, "check")


def test_a_board_older_than_its_comparison_is_refused(project: Path) -> None:
    change(project / "results/compare/digits.json", lambda value: value["rows"].pop())
    with pytest.raises(DataError, match=r"leaderboard\.json.*results/compare/digits\.json"):
        render.board(project)


def test_the_board_shows_the_chosen_its_interval_the_floors_and_the_verdict(project: Path) -> None:
    text = render.board(project)
    chosen = next(
        row for row in leaderboard.load(project) if row.name == "denoising" and row.dataset == "digits"
    )
    assert (
        f"**denoising** (chosen) | variant | 8 | **{render.figure(chosen.metrics['probe_accuracy'])}**"
        in text
    )
    for name in ("untrained denoising", "PCA-8", "random projection-16", "raw"):
        assert f"| {name}" in text
    assert "untrained sparse | rival | 8" not in text.split("breast")[0]
    assert text.count("**Passed:**") == 2
    assert text.count("**Held:**") == 1


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_shown_and_does_nothing(project: Path, name: str) -> None:
    before = render.board(project)
    rename(project, "denoising", name)
    render.render(project)
    assert render.render(project) == []
    text = (project / README).read_text()
    assert "<script" not in text
    assert text.count("<!-- leaderboard:end -->") == 1
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert (
        len(lines) == sum(line.startswith("|") for line in before.splitlines()) - 1
    )  # its untrained encoder
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {7}


@given(st.text(max_size=40))
def test_escaped_text_stays_in_its_cell(text: str) -> None:
    safe = render.escaped(text)
    assert "\n" not in safe
    assert "<" not in safe
    assert re.fullmatch(r"(?:[^\\`*_\[\]|~$!#]|\\[\\`*_\[\]|~$!#])*", safe)


@pytest.mark.parametrize(
    "spoil", [str.upper, lambda page: page + page, lambda page: page.replace("start", "begin")]
)
def test_a_page_without_its_markers_is_an_error_that_names_them(
    project: Path, spoil: Callable[[str], str]
) -> None:
    page = project / README
    page.write_text(spoil(page.read_text()))
    with pytest.raises(DataError, match=r"README\.md: needs one line <!-- leaderboard:start -->"):
        render.render(project)


def test_a_figure_that_misses_its_target_says_so(project: Path) -> None:
    assert "make bench-pipeline" in render.pipeline(project)
    rows = [
        {"name": "serial run", "value": 312.5, "unit": "s", "target": 360, "met": True},
        {"name": "nothing to do", "value": 4.25, "unit": "s", "target": 3, "met": False},
        {"name": "byte-identical", "value": True, "unit": "yes/no", "target": True, "met": True},
        {"name": "stages", "value": 73, "unit": "stages", "target": None, "met": None},
    ]
    write_json(project / render.PIPELINE, {"machine": {"cores": 2}, "commit": "abc123", "rows": rows})
    text = render.pipeline(project)
    assert "| serial run | 312 s | ≤ 360 | yes |" in text
    assert "| nothing to do | 4.25 s | ≤ 3 | **no** |" in text
    assert "| byte-identical | yes | yes | yes |" in text
    assert "| stages | 73 stages |  |  |" in text
    assert "cores 2, at commit `abc123`" in text
    assert "make bench-judge" in render.judge(project)
    rows = [{"name": "probe", "value": 21.5, "unit": "×", "target": 15, "met": True, "better": "higher"}]
    write_json(project / render.JUDGE, {"machine": {"cores": 2}, "commit": "abc123", "rows": rows})
    assert "| probe | 21.5 × | ≥ 15 | yes |" in render.judge(project)


def ratio(name: str, value: float, **changes: Any) -> dict[str, Any]:
    spread = {"median": 1000.0, "low": 900.0, "high": 1100.0}
    return {
        "name": name,
        "ratio": value,
        "ratios": [value, value + 0.1],
        "target": 1.5,
        "better": "higher",
        "met": value >= 1.5,
        "best_peer": "PyOD",
        "samples_per_second": {"LatentOps": spread | {"median": 23456.0}, "PyOD": spread},
        "losses": {"LatentOps": spread, "PyOD": spread},
        "peak_bytes": {"LatentOps": 4 * 10**8, "PyOD": 6 * 10**8},
        "gemm_share": 0.456,
        "counts": True,
        **changes,
    }


def test_the_speed_section_and_its_drawing_say_what_was_measured(project: Path) -> None:
    assert "make bench-speed" in render.speed(project)
    assert render.speed_drawing(project) is None
    rows = [
        ratio("large", 2.0),
        ratio("small & slow", 0.5),
        ratio("unlike", 3.0, counts=False, met=False),
        ratio("penalty", 2.25, better="lower", target=1.6, met=False, gemm_share=None),
        ratio("free", 1.25, target=None, met=None),
    ]
    write_json(project / render.SPEED, {"machine": {"cores": 2}, "commit": "abc123", "rows": rows})
    text = render.speed(project)
    assert "| large | 23,456 | 1,000 (PyOD) | 2.00 (2.00–2.10) | ≥ 1.5 | yes | 46% | 400 · 600 |" in text
    assert "| unlike | 23,456 | 1,000 (PyOD) | 3.00 (3.00–3.10) | ≥ 1.5 | losses differ |" in text
    assert "| ≤ 1.6 | **no** | – |" in text
    assert render.DRAWING in render.render(project)
    assert render.render(project) == []
    drawing = (project / render.DRAWING).read_text()
    shown = ElementTree.fromstring(drawing)
    written = [element.text for element in shown.iter("{http://www.w3.org/2000/svg}text")]
    assert {"large", "small & slow", "unlike, losses differ", "2.00 × PyOD", "free"} <= set(written)
    (project / render.DRAWING).write_text(drawing.replace("2.00", "9.00"))
    assert render.render(project, "check") == [render.DRAWING]


def test_a_picture_needs_a_report_and_a_browser(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LatentOpsError, match="make report"):
        render.picture(project)
    (project / render.REPORT).write_text("<p>report</p>")
    monkeypatch.setenv("PATH", str(project))
    with pytest.raises(LatentOpsError, match="Chromium"):
        render.picture(project)
    assert not (project / render.PICTURE).exists()


def grown(figure: str, exponent: float, against: str = "samples", **changes: Any) -> dict[str, Any]:
    unit = 1.0 if figure == "time" else 10**6
    return {
        "name": "training",
        "against": against,
        "figure": figure,
        "exponent": exponent,
        "target": 1.0,
        "tolerance": 0.1,
        "met": exponent <= 1.1,
        "points": [[size, unit * size**exponent / 100] for size in (10, 100, 1000, 10000)],
        **changes,
    }


def test_the_growth_section_and_its_drawing_say_what_was_measured(project: Path) -> None:
    assert "make bench-growth" in render.growth(project)
    assert render.growth_drawing(project) is None
    rows = [
        grown("time", 1.0),
        grown("memory", 2.0),
        grown("time", 0.5, "le<ngth"),
        grown("memory", 0.0, "le<ngth", points=[[1, 10**5], [5, 10**5], [20, 10**5]]),
    ]
    write_json(project / render.GROWTH, {"machine": {"cores": 2}, "commit": "abc123", "rows": rows})
    text = render.growth(project)
    assert "| training | samples | time | 10–10,000 | 0.1 s | 100 s | 1.00 | ≤ 1.1 | yes |" in text
    assert "| training | samples | memory | 10–10,000 | 1 MB | 1000000 MB | 2.00 | ≤ 1.1 | **no** |" in text
    assert "| < 0.1 MB | < 0.1 MB | 0.00 |" in text
    assert render.CURVES in render.render(project)
    assert render.render(project) == []
    shown = ElementTree.fromstring((project / render.CURVES).read_text())
    written = [element.text for element in shown.iter("{http://www.w3.org/2000/svg}text")]
    assert {"training, by samples", "training, by le<ngth", "time 1.00, 100 s", "10k"} <= set(written)


def test_what_grows_in_proportion_runs_along_the_broken_line(project: Path) -> None:
    row = grown("time", 1.0)
    write_json(project / render.GROWTH, {"machine": "here", "commit": "abc", "rows": [row]})
    shown = ElementTree.fromstring(render.growth_drawing(project) or "")
    space = "{http://www.w3.org/2000/svg}"
    (line,) = [each for each in shown.iter(f"{space}line") if each.get("class") == "linear"]
    ends = [float(line.attrib[name]) for name in ("x1", "y1", "x2", "y2")]
    marks = list(shown.iter(f"{space}circle"))
    first, last = ([float(each.attrib[name]) for name in ("cx", "cy")] for each in (marks[0], marks[-1]))
    assert ends == pytest.approx([*first, *last], abs=0.02)


def test_the_startup_section_tells_start_from_work(project: Path) -> None:
    assert "make bench-startup" in render.startup(project)
    run = {
        "arguments": ["digits", "sparse"],
        "start": 1.0,
        "work": 0.5,
        "peak_bytes": 9,
        "libraries": ["scipy"],
    }
    row = {
        "name": "train",
        "seconds": {"median": 0.9, "low": 0.8, "high": 1.2},
        "peak_bytes": 2 * 10**8,
        "libraries": ["numpy", "torch"],
        "runs": [run, {**run, "arguments": ["wine", "sparse"], "work": 4.0}],
        "start_over_work": 2.0,
        "target": 1.0,
        "met": False,
    }
    bare = {**row, "name": "Python alone", "libraries": [], "runs": []}
    bare |= {"start_over_work": None, "target": None, "met": None}
    write_json(project / render.STARTUP, {"machine": "here", "commit": "abc", "rows": [bare, row]})
    text = render.startup(project)
    assert "| Python alone | 0.90 | 200 | – |  |  |  |  |" in text
    assert "| train | 0.90 | 200 | numpy, torch | scipy | 2 | ≤ 1 | **no** |" in text
    assert "| train wine sparse | 1.00 | 4.00 |" in text


def remedy(name: str, low: float, high: float, verdict: str, **changes: Any) -> dict[str, Any]:
    return {
        "name": f"collapse: dead units, {name}",
        "topic": "variational",
        "commit": "abc123",
        "warning": "collapse",
        "number": "dead units",
        "remedy": name,
        "without": {"mean": 4.2, "values": [4.0, 4.4]},
        "remedied": {"mean": 4.2 + (low + high) / 2, "values": [1.0, 1.2]},
        "difference": (low + high) / 2,
        "low": low,
        "high": high,
        "verdict": verdict,
        "better": "lower",
        **changes,
    }


def test_the_remedies_stand_in_a_table_a_warning(project: Path) -> None:
    assert "make bench-remedies" in render.remedies(project)
    rows = [
        remedy("warm-up", -4.0, -2.0, "helps"),
        remedy("free|bits", -1.0, 1.5, "no effect shown"),
        remedy("revival", 0.001, 0.003, "hurts", warning="blur", better="higher", topic="sparse"),
        remedy("gaussian", -4.0, -2.0, "helps", warning=render.MATRIX, topic="denoising"),
    ]
    write_json(project / render.REMEDIES, {"machine": {"cores": 2}, "commit": "abc123", "rows": rows})
    text = render.remedies(project)
    assert "cores 2, at commit `abc123`" in text
    assert "Of 3 remedies 1 help, 1 show no effect, 1 hurt." in text
    assert render.MATRIX not in text
    collapse, blur = text.split("**Collapse**")[1].split("**Blur**")
    assert "| dead units ↓ | warm-up | 4.2 | 1.2 | −3 (−4 to −2) | helps |" in collapse
    assert "| free\\|bits | 4.2 | 4.45 | +0.25 (−1 to +1.5) | **no effect shown** |" in collapse
    assert "| dead units ↑ | revival | 4.2 | 4.2 | +0.002 (+0.001 to +0.003) | **hurts** |" in blur
    assert "earlier commit" not in text
    rows[2]["commit"] = "fed321"
    write_json(project / render.REMEDIES, {"machine": {"cores": 2}, "commit": "abc123", "rows": rows})
    assert "Taken at an earlier commit: sparse." in render.remedies(project)


def test_losses_stand_side_by_side_with_a_star_where_they_differ(project: Path) -> None:
    assert "make bench-remedies TOPIC=losses" in render.losses(project)
    rows = [
        remedy("huber", -4.0, -2.0, "helps", topic="losses"),
        remedy("bernoulli", -1.0, 1.5, "no effect shown", topic="losses"),
        remedy("revival", -4.0, -2.0, "helps"),
    ]
    write_json(project / render.REMEDIES, {"machine": "here", "commit": "abc123", "rows": rows})
    header, _, *lines = render.losses(project).splitlines()
    assert header == "| left by | gaussian, learned variance | huber | bernoulli |"
    assert lines == ["| dead units | 4.2 | 1.2\\* | 4.45 |"]


def test_the_matrix_has_a_line_for_what_is_met_and_a_column_for_what_was_trained_on(project: Path) -> None:
    rows = [
        remedy(kind, low, high, verdict, warning=render.MATRIX, number=f"error, met with {met}", topic=topic)
        for met in ("clean", "masking 0.3")
        for kind, low, high, verdict, topic in (
            ("gaussian", -4.0, -2.0, "helps", "denoising"),
            ("mixed", -1.0, 1.5, "no effect shown", "denoising"),
        )
    ]
    write_json(project / render.REMEDIES, {"machine": "here", "commit": "abc123", "rows": []})
    assert "make bench-remedies TOPIC=denoising" in render.matrix(project)
    write_json(project / render.REMEDIES, {"machine": "here", "commit": "abc123", "rows": rows})
    header, _, *lines = render.matrix(project).splitlines()
    assert header == "| trained on | nothing | gaussian | mixed |"
    assert lines == [
        "| error, met with clean | 4.2 | 1.2\\* | 4.45 |",
        "| error, met with masking 0.3 | 4.2 | 1.2\\* | 4.45 |",
    ]


def warned(project: Path) -> dict[str, list[str]]:
    """The cells beside each warning, of every line it has."""
    lines = [line.split(" | ") for line in render.warnings(project).splitlines()[2:]]
    return {
        warning: [cell for first, *cells in lines if first == f"| {warning}" for cell in cells]
        for warning in render.WARNINGS
    }


def test_every_warning_has_its_figures_once_it_is_measured(project: Path) -> None:
    assert "make bench-remedies" in render.warnings(project)
    names = [name for each in render.WARNINGS.values() for name in each if name != render.MEMORY]
    rows = [
        remedy(how, low, high, verdict, warning=name)
        for name in names
        for how, low, high, verdict in (
            ("warm-up", -4.0, -2.0, "helps"),
            ("revival", -4.0, -2.0, "helps"),
            ("free bits", -1.0, 1.5, "no effect shown"),
        )
    ]
    found = {"machine": "here", "commit": "abc123"}
    write_json(project / render.REMEDIES, {**found, "rows": rows[3:]})
    assert {name for name, cells in warned(project).items() if "not measured yet" in cells} == {
        "a good reconstruction is not a good code",
        "sequences lose fine detail; long contexts cost memory",
    }
    write_json(project / render.REMEDIES, {**found, "rows": rows})
    light = [
        grown("memory", 1.0, "length", name="training, GRU"),
        grown("memory", 0.5, "length", name="training, GRU in chunks"),
    ]
    write_json(project / render.GROWTH, {**found, "rows": light})
    for cells in warned(project).values():
        told = "dead units ↓", "warm-up", "4.2", "1.2", "2 help, 1 show no effect |"
        assert tuple(cells[:5]) == told
    (long,) = [cells[5:] for name, cells in warned(project).items() if "memory" in name]
    assert long[:4] == [
        "memory, training, GRU, length 10,000 ↓", "training, GRU in chunks", "100 MB", "1 MB",
    ]  # fmt: skip
    assert "| training, GRU in chunks | 100 MB | 1 MB |" in render.remedies(project)


def test_the_page_has_a_line_for_every_warning_of_the_design(root: Path) -> None:
    page = (root / "docs/variants.md").read_text(encoding="utf-8")
    section = page.split("<!-- warnings:start -->")[1].split("<!-- warnings:end -->")[0]
    assert len(render.WARNINGS) == 14
    assert "not measured yet" not in section
    for warning, names in render.WARNINGS.items():
        assert section.count(f"| {warning} | ") == len(names)


def test_every_warning_is_one_that_a_study_measures(root: Path) -> None:
    sources = (root / "benchmarks/remedies").glob("*.py")
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in sources]
    told = {node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    names = {name for each in render.WARNINGS.values() for name in each}
    assert names - told == {render.MEMORY}
    assert render.MATRIX in told


def test_what_is_lighter_in_memory_is_a_sweep_of_the_growth() -> None:
    sweeps = {(sweep.name, sweep.against) for sweep in growing.SWEEPS}
    for name, (against, lighter) in render.LIGHTER.items():
        assert {(name, against), (lighter, against)} <= sweeps


def test_what_is_lost_to_columns_of_noise_is_a_line_a_code_from_nothing(project: Path) -> None:
    assert render.irrelevant_drawing(project) is None
    rows = [
        remedy("sparse", 0.0, 0.2, "hurts", number=f"probe accuracy lost with {columns} columns of noise",
               without={"mean": columns / 100, "values": []}, remedied={"mean": columns / 50, "values": []})
        for columns in (30, 10)
    ]  # fmt: skip
    write_json(project / render.REMEDIES, {"machine": "here", "commit": "abc123", "rows": rows})
    assert render.IRRELEVANT in render.render(project)
    shown = ElementTree.fromstring((project / render.IRRELEVANT).read_text())
    assert "undercomplete: 0.100 with 10, 0.300 with 30; sparse: 0.200 with 10, 0.600 with 30" in str(
        shown.get("aria-label")
    )
    paths = [node for node in shown.iter() if node.tag.endswith("path")]
    plain, sparse = ([float(y) for y in re.findall(r" ([\d.]+)", node.get("d", ""))] for node in paths)
    assert plain[0] == sparse[0]
    assert sparse[0] - sparse[2] == pytest.approx(2 * (plain[0] - plain[2]), abs=0.05)


@given(st.floats(-1e6, 1e6))
def test_a_signed_number_is_the_number(value: float) -> None:
    for plus in ("", "+"):
        text = render.signed(value, plus)
        assert "-" not in text.partition("e")[0]
        assert float(text.replace("−", "-")) == pytest.approx(value, rel=0.005, abs=1e-300)
