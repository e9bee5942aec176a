"""What nothing names goes; what anything names stays, and works as before."""

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from latentops.atomic import write_json
from latentops.cli import prune as prune_command
from latentops.config import load_params
from latentops.errors import RegistryError
from latentops.registry import results, store, tracking, versions
from latentops.registry.champion import promote
from latentops.registry.pruning import Pruned, age, prune
from latentops.registry.verification import verify
from latentops.reporting.profiles import drawings

from .conftest import VARIANTS, write_comparison

NOW = timedelta(0)


def record(dataset: str = "table") -> set[str]:
    """As the stage does."""
    hashes = tracking.complete(dataset, load_params(), drawings)
    write_json(Path("results/record") / f"{dataset}.json", {"runs": hashes})
    return set(hashes.values())


def recorded(dataset: str = "table") -> set[str]:
    client = store.connect()
    found = client.search_runs([store.experiment(client, dataset)])
    return {run.data.tags[results.CONTENT] for run in found}


def stored() -> list[Path]:
    return sorted(path for path in Path("var/mlflow").rglob("*") if "artifacts" in path.parts)


@pytest.fixture
def used(file_store: None, twice: Path) -> dict[str, set[str]]:
    """After two champions: results nobody chose, results of now, and a version of a promotion cut short."""
    write_comparison("table", values=[0.5, 0.6])
    unnamed = record()
    write_comparison("table", "undercomplete", seed=0, values=[0.93, 0.94])
    present = record()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("latentops.registry.ledger.append", interrupt)
        with pytest.raises(KeyboardInterrupt):
            promote("table")
    return {"unnamed": unnamed, "present": present}


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.slow
def test_a_dry_run_changes_nothing_and_says_what_the_real_one_does(used: dict[str, set[str]]) -> None:
    before, files = recorded(), stored()
    would = prune(NOW, dry_run=True)
    assert (recorded(), stored()) == (before, files)
    assert len(would.runs) == len(VARIANTS)
    assert would.versions == ("table-autoencoder version 3",)
    assert len(would.models) == 1
    assert prune(NOW, dry_run=False) == would


@pytest.mark.slow
def test_what_an_alias_the_ledger_or_the_present_results_name_stays(used: dict[str, set[str]]) -> None:
    before, files = recorded(), stored()
    prune(NOW, dry_run=False)
    assert recorded() == before - used["unnamed"]
    assert used["present"] <= recorded()
    assert [each.number for each in versions.versions(store.connect(), "table")] == [2, 1]
    for name in ("table@champion", "table@previous"):
        answer = verify(name)
        assert answer.holds, [link.text for link in answer.broken]
    assert set(stored()) < set(files)
    again = prune(NOW, dry_run=False)
    assert again == Pruned((), (), (), 0, again.cache)
    assert promote("table").promoted  # what was cut short can be done over


@pytest.mark.slow
def test_what_is_young_stays(used: dict[str, set[str]]) -> None:
    would = prune(timedelta(days=30), dry_run=True)
    assert (would.runs, would.versions, would.models) == ((), (), ())


@pytest.mark.slow
def test_nothing_is_pruned_while_a_kept_version_lies_in_the_bin(used: dict[str, set[str]]) -> None:
    client = store.connect()
    run = versions.resolve("table@previous").run_id
    client.delete_run(run)
    with pytest.raises(RegistryError, match="table-autoencoder version 1: its run or its files were deleted"):
        prune(NOW, dry_run=False)
    client.restore_run(run)
    assert verify("table@previous").holds
    client.delete_experiment(store.experiment(client, "table"))
    with pytest.raises(RegistryError, match="nothing is pruned"):
        prune(NOW, dry_run=False)


@pytest.mark.slow
@pytest.mark.usefixtures("file_store")
def test_data_that_a_commit_or_the_workspace_names_stays(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    dvc = [sys.executable, "-m", "dvc"]
    run = lambda *command: subprocess.run(command, check=True, capture_output=True)  # noqa: E731
    run(*git, "init", "-q")
    run(*dvc, "init", "-q")
    Path("dvc.lock").write_text("")  # a commit that DVC can't read
    run(*git, "add", "dvc.lock")
    run(*git, "commit", "-q", "-m", "broken")
    Path("dvc.lock").write_text("schema: '2.0'\n")
    run(*git, "add", "dvc.lock")
    for text, commit in (("committed", True), ("neither", False), ("workspace", False)):
        Path("rows").write_text(text)
        run(*dvc, "add", "-q", "rows")
        if commit:
            run(*git, "add", "rows.dvc", ".dvc")
            run(*git, "commit", "-q", "-m", text)

    def kept() -> set[str]:
        return {path.read_text() for path in Path(".dvc/cache/files").rglob("*") if path.is_file()}

    prune_command()
    assert "nothing was removed: --yes does it" in capsys.readouterr().out
    assert kept() == {"committed", "neither", "workspace"}
    prune_command(yes=True)
    assert "cache    Removed 1 objects from repo cache." in capsys.readouterr().out
    assert kept() == {"committed", "workspace"}
    Path("rows.dvc").write_text("outs: [")
    with pytest.raises(RegistryError, match=r"dvc gc: .*rows\.dvc"):
        prune_command(yes=True)
    assert kept() == {"committed", "workspace"}


@pytest.mark.slow
@pytest.mark.usefixtures("file_store")
def test_the_data_of_a_live_model_that_no_lock_names_stays(promoted: Path) -> None:
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q", "--no-scm"], check=True)
    lock = yaml.safe_load(Path("dvc.lock").read_text())
    lock["stages"]["train@table-variational"]["outs"][0]["md5"] = "0" * 32
    Path("dvc.lock").write_text(yaml.safe_dump(lock))
    assert prune(NOW, dry_run=False).cache == (
        "left alone, as no dvc.lock of a commit names what table-autoencoder version 1 came from: commit it"
    )


@pytest.mark.slow
@pytest.mark.usefixtures("file_store")
def test_a_cache_outside_the_project_is_left_alone(project: Path, tmp_path: Path) -> None:
    dvc = [sys.executable, "-m", "dvc"]
    subprocess.run([*dvc, "init", "-q", "--no-scm"], check=True)
    subprocess.run([*dvc, "cache", "dir", "-q", str(tmp_path / "shared")], check=True)
    assert "left alone" in prune(NOW, dry_run=False).cache


def test_a_server_is_pruned_where_its_database_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(RegistryError, match="--backend-store-uri"):
        prune(NOW, dry_run=True)


def test_an_age_is_days_or_hours() -> None:
    assert age("30d") == timedelta(days=30)
    assert age("12h") == timedelta(hours=12)
    with pytest.raises(RegistryError, match="'1w' is no age"):
        age("1w")
