"""The flow on a toy DAG: what fails stops only what depends on it, and the next run resumes."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.graph import read_graph, read_status
from pipelines.reproduce import make_plan, reproduce

pytestmark = pytest.mark.slow

# a → b → c, a → d; b fails until the file `mended` is there.
DAG = """
stages:
  a:
    cmd: echo a >> ran.txt && echo a > a.txt
    outs: [a.txt]
  b:
    cmd:
      - echo b >> ran.txt
      - 'test -f mended || { echo "error: b needs mending" >&2; exit 1; }'
      - echo b > b.txt
    deps: [a.txt]
    outs: [b.txt]
  c:
    cmd: echo c >> ran.txt && echo c > c.txt
    deps: [b.txt]
    outs: [c.txt]
  d:
    cmd: echo d >> ran.txt && echo d > d.txt
    deps: [a.txt]
    outs: [d.txt]
"""


@pytest.fixture
def toy(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(root / "params.yaml", tmp_path)
    (tmp_path / "dvc.yaml").write_text(DAG)
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "--quiet"], cwd=tmp_path, check=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def lines(project: Path) -> list[str]:
    return (project / "ran.txt").read_text().split()


@pytest.mark.usefixtures("prefect_server")
def test_a_failure_stops_its_dependents_only_and_a_rerun_resumes(toy: Path) -> None:
    state = reproduce(promoting=False, return_state=True)
    assert state.is_failed()
    assert "b: b needs mending" in str(state.message)
    assert "1 failed, 1 not started for it" in str(state.message)
    assert sorted(lines(toy)) == ["a", "b", "d"]

    (toy / "mended").touch()
    assert [unit.name for unit in make_plan([]).work] == ["b", "c"]
    assert reproduce(promoting=False, return_state=True).is_completed()
    assert lines(toy)[3:] == ["b", "c"]
    assert read_status() == {}


def test_the_graph_is_dvcs_own(toy: Path) -> None:
    assert read_graph() == {
        "a": frozenset(),
        "b": frozenset({"a"}),
        "c": frozenset({"b"}),
        "d": frozenset({"a"}),
    }


@pytest.mark.usefixtures("toy")
def test_a_plan_says_how_much_is_cached() -> None:
    assert str(make_plan([])) == "4 stages: 0 cached by DVC, 4 stale or after a stale one"
