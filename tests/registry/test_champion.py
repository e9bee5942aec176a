"""Promotion: gates decide, the ledger knows, and everything can be undone and proven."""

import json
import re
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from mlflow import MlflowClient

import latentops
from latentops.config import load_params
from latentops.errors import RegistryError
from latentops.registry import candidate, ledger, results, store, tracking, versions
from latentops.registry.champion import Decision, history, promote, reject, rollback
from latentops.registry.gates import Gate
from latentops.registry.versions import resolve
from latentops.reporting.profiles import drawings

from .conftest import write_comparison
from .servers import Tracking

MODEL = "table-autoencoder"


def challenge(variant: str = "undercomplete", **changes: object) -> Decision:
    """Let the comparison choose `variant`, record that and try to promote it."""
    write_comparison("table", variant, **changes)
    tracking.record("table", load_params(), drawings)
    return promote("table", reason="a test")


def card(model: str, gates: Sequence[Gate]) -> str:
    return "\n".join([f"A card of {model}.", *(f"{gate.gate}: {gate.text}" for gate in gates)])


def count() -> int:
    return len(versions.versions(store.connect(), "table"))


@pytest.mark.postgresql
def test_what_passes_every_gate_is_champion(recorded: Path) -> None:
    decision = promote("table", reason="first light", card=card)
    assert decision.promoted
    assert (decision.version, decision.previous, decision.variant, decision.seed) == (
        1,
        None,
        "variational",
        1,
    )
    version = resolve("table@champion")
    assert version.number == 1
    assert version.tags[results.CONTENT] == decision.content_hash
    assert json.loads(version.tags["gate.rivals"]) == {"value": 0.04, "limit": 0.0, "verdict": "passed"}
    assert "gate.champion" in version.tags
    described = store.connect().get_model_version(MODEL, "1")
    assert described.description.startswith("A card of table/1.\nrivals: beats pca-3")


@pytest.mark.postgresql
def test_a_version_is_tied_to_its_run_and_its_logged_model(
    promoted: Path, own_server: Tracking | None
) -> None:
    client = store.connect()
    version = client.get_model_version(MODEL, "1")
    run = tracking.find(client, "table", version.tags[results.CONTENT])
    assert version.run_id == run.info.run_id
    [output] = run.outputs.model_outputs
    logged = client.get_logged_model(output.model_id)
    assert logged.status.name == "READY"
    assert version.source == (f"models:/{logged.model_id}" if own_server else logged.artifact_location)
    assert json.loads(logged.tags["mlflow.modelVersions"]) == [{"name": MODEL, "version": 1}]


def test_without_a_card_the_description_is_not_empty(promoted: Path) -> None:
    text = store.connect().get_model_version(MODEL, "1").description
    assert "variational autoencoder of table, seed 1" in text


def test_promoting_the_same_content_again_does_nothing(promoted: Path) -> None:
    again = promote("table")
    assert not again.promoted
    assert again.version == 1
    assert "is champion already (version 1)" in again.text
    assert count() == 1
    assert len(history("table")) == 1


def test_a_gate_that_holds_leaves_the_alias_alone(promoted: Path) -> None:
    failing = {"gate": "rivals", "value": -0.01, "limit": 0.0, "passed": False, "text": "does not beat pca-3"}
    decision = challenge(gates=[failing], passed=False)
    assert not decision.promoted
    assert [gate.gate for gate in decision.held] == ["rivals"]
    assert "held by rivals: does not beat pca-3; version 2 is challenger" in decision.text
    assert resolve("table@champion").number == 1


FAILING = {"gate": "rivals", "value": -0.01, "limit": 0.0, "passed": False, "text": "does not beat pca-3"}


def held() -> Decision:
    """The plain variant, which a gate holds back."""
    return challenge(gates=[FAILING], passed=False)


def challenger() -> int | None:
    found = versions.aliased(store.connect(), "table", "challenger")
    return found.number if found else None


def events() -> list[tuple[str, int, int | None]]:
    return [(line["event"], line["version"], line["previous"]) for line in history("table")]


def test_without_a_champion_what_is_held_is_challenger_and_no_more(recorded: Path) -> None:
    decision = held()
    assert (decision.promoted, decision.version) == (False, None)
    with pytest.raises(RegistryError, match="table has versions 1 and aliases challenger"):
        resolve("table@champion")
    assert latentops.load("table@challenger").facts.variant == "undercomplete"
    gate = json.loads(resolve("table@challenger").tags["gate.rivals"])
    assert gate == {"value": -0.01, "limit": 0.0, "verdict": "held"}


def test_a_challenger_that_is_held_again_changes_nothing(promoted: Path) -> None:
    held()
    held()
    assert events() == [("promote", 1, None), ("hold", 2, 1)]
    assert (count(), challenger()) == (2, 2)


def test_what_is_promoted_leaves_no_challenger(promoted: Path) -> None:
    held()
    assert challenge().version == 2
    assert (challenger(), count()) == (None, 2)
    assert json.loads(resolve("table@champion").tags["gate.rivals"])["verdict"] == "passed"


@pytest.mark.postgresql
def test_a_rejected_challenger_keeps_the_reason_and_is_none_again(promoted: Path) -> None:
    held()
    decision = reject("table", reason="blurred edges")
    assert (decision.promoted, decision.version, challenger()) == (False, 1, None)
    assert resolve("table/2").tags[candidate.REJECTED] == "blurred edges"
    assert "version 2 was rejected: blurred edges" in held().text
    assert events() == [("promote", 1, None), ("hold", 2, 1), ("reject", 2, 1)]
    assert challenger() is None
    assert reject("table", reason="again").text == "table: version 2 is rejected already: blurred edges"
    assert len(history("table")) == 3
    with pytest.raises(RegistryError, match="a rejection needs a reason"):
        reject("table", reason=" ")


def test_a_promotion_past_a_gate_needs_a_reason_and_shows_for_good(promoted: Path) -> None:
    held()
    with pytest.raises(RegistryError, match="a forced promotion needs a reason"):
        promote("table", force=True)
    decision = promote("table", reason="the old one leaks", force=True)
    assert (decision.promoted, decision.version, decision.previous) == (True, 2, 1)
    assert "forced past rivals: does not beat pca-3" in decision.text
    rollback("table")
    assert resolve("table@previous").tags[candidate.FORCED] == "the old one leaks"
    assert [line.get("forced", False) for line in history("table")] == [False, False, True, False]


def test_what_passes_every_gate_is_not_forced(recorded: Path) -> None:
    assert promote("table", reason="to be sure", force=True).promoted
    assert candidate.FORCED not in resolve("table").tags
    assert "forced" not in history("table")[0]


@pytest.mark.parametrize(
    ("event", "call"),
    [
        ("hold", "set_registered_model_alias"),
        ("reject", "set_model_version_tag"),
        ("reject", "delete_registered_model_alias"),
        ("promote", "set_model_version_tag"),
        ("promote", "set_registered_model_alias"),
        ("promote", "delete_registered_model_alias"),
    ],
)
def test_what_is_cut_short_of_a_challenger_is_finished(
    promoted: Path, monkeypatch: pytest.MonkeyPatch, event: str, call: str
) -> None:
    if event != "hold":
        held()

    def cut_short(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    act = {
        "hold": held,
        "reject": lambda: reject("table", reason="no"),
        "promote": lambda: promote("table", reason="now", force=True),
    }[event]
    with monkeypatch.context() as patch:
        patch.setattr(candidate.Candidate, "mark", lambda *_: None)  # else tags are set before the event
        patch.setattr(MlflowClient, call, cut_short)
        with pytest.raises(KeyboardInterrupt):
            act()
    lines = len(history("table"))
    promote("table")
    assert len(history("table")) == lines
    assert challenger() == (2 if event == "hold" else None)
    assert (candidate.REJECTED in resolve("table/2").tags) == (event == "reject")
    assert resolve("table@champion").number == (2 if event == "promote" else 1)
    assert (candidate.FORCED in resolve("table/2").tags) == (event == "promote")
    assert ledger.breaks() == []


def test_a_hold_cut_short_takes_the_place_of_an_older_challenger(
    promoted: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    held()
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "set_registered_model_alias", lambda *_: (_ for _ in ()).throw(OSError))
        with pytest.raises(OSError):  # noqa: PT011 - what a store does that is gone
            challenge("variational", seed=0, gates=[FAILING], passed=False)
    assert challenger() == 2
    assert reject("table", reason="it is the one to reject").text == "table: version 3 is rejected"
    assert "table: finished the hold of version 3, which was cut short" in capfd.readouterr().err
    assert candidate.REJECTED not in resolve("table/2").tags


@pytest.mark.postgresql
def test_a_promotion_remembers_the_champion_before(promoted: Path) -> None:
    decision = challenge()
    assert (decision.version, decision.previous) == (2, 1)
    assert (resolve("table@champion").number, resolve("table@previous").number) == (2, 1)
    assert latentops.load("table@champion").facts.variant == "undercomplete"
    assert latentops.load("table@previous").facts.variant == "variational"


@pytest.mark.postgresql
def test_rollback_restores_and_rolling_back_again_does_nothing(twice: Path) -> None:
    undone = rollback("table", reason="it misbehaved")
    assert (undone.promoted, undone.version, undone.previous) == (True, 1, 2)
    assert (resolve("table@champion").number, resolve("table@previous").number) == (1, 2)
    again = rollback("table")
    assert (again.promoted, again.version) == (False, 1)
    assert "since version 2 was rolled back (it misbehaved); `latentops promote table --force`" in again.text
    assert (resolve("table@champion").number, resolve("table@previous").number) == (1, 2)
    assert [(line["event"], line["version"], line["previous"]) for line in history("table")] == [
        ("promote", 1, None),
        ("promote", 2, 1),
        ("rollback", 1, 2),
    ]
    assert history("table")[2]["why"] == "it misbehaved"
    assert ledger.breaks() == []


@pytest.mark.postgresql
def test_what_was_rolled_back_is_live_again_by_force_alone(twice: Path) -> None:
    """And needs no new version, as its content was registered before."""
    rollback("table", reason="it misbehaved")
    held = promote("table")
    assert [gate.gate for gate in held.held] == ["rolled back"]
    assert "version 2 was rolled back: it misbehaved; version 2 is challenger" in held.text
    assert resolve("table@champion").number == 1
    again = promote("table", reason="it was the data", force=True)
    assert (again.promoted, again.version, again.previous) == (True, 2, 1)
    assert count() == 2


def test_there_is_nothing_to_roll_back_to_at_first(promoted: Path) -> None:
    with pytest.raises(
        RegistryError, match="table: nothing to roll back to, version 1 is the first champion"
    ):
        rollback("table")


def test_what_was_not_recorded_cannot_be_promoted(project: Path) -> None:
    with pytest.raises(RegistryError, match=r"not recorded; run `latentops record table`"):
        promote("table")
    assert history("table") == []


def test_two_promotions_at_once_make_one_version(recorded: Path) -> None:
    with ThreadPoolExecutor(2) as both:
        decisions = list(both.map(promote, ["table", "table"]))
    assert sorted(decision.promoted for decision in decisions) == [False, True]
    assert count() == 1
    assert len(history("table")) == 1


def test_a_gate_of_any_name_becomes_a_tag(recorded: Path) -> None:
    gate = {"gate": "beats PCA-3 (α=5%)", "value": 1.0, "limit": 0.0, "passed": True, "text": "it does"}
    assert challenge(gates=[gate]).promoted
    assert any(key.startswith("gate.beats PCA-3") for key in resolve("table").tags)


def test_where_nothing_was_chosen_nothing_is_promoted(recorded: Path) -> None:
    write_comparison("table", chosen=None)
    path = Path("results/compare/table.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "chosen": None}))
    decision = promote("table")
    assert not decision.promoted
    assert "nothing was chosen" in decision.text


@pytest.mark.parametrize("event", ["promote", "rollback"])
@pytest.mark.parametrize("done", [0, 1])
def test_an_event_cut_short_between_ledger_and_alias_is_finished(
    promoted: Path, monkeypatch: pytest.MonkeyPatch, event: str, done: int
) -> None:
    """However many aliases were moved before the end, the next call finishes what the ledger says, once."""
    if event == "rollback":
        challenge()
    move, moved = MlflowClient.set_registered_model_alias, []

    def cut_short(self: MlflowClient, *arguments: str) -> None:
        if len(moved) == done:
            raise KeyboardInterrupt
        moved.append(arguments)
        move(self, *arguments)

    act = challenge if event == "promote" else lambda: rollback("table")
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "set_registered_model_alias", cut_short)
        with pytest.raises(KeyboardInterrupt):
            act()
    lines = len(history("table"))
    act()
    last = history("table")[-1]
    assert len(history("table")) == lines
    assert (resolve("table@champion").number, resolve("table@previous").number) == (
        last["version"],
        last["previous"],
    )


def test_a_champion_whose_files_were_damaged_is_made_again(
    promoted: Path, kept: Callable[[str], Path]
) -> None:
    (kept("table") / "artifacts" / "package" / "package.json").unlink()
    assert promote("table").version == 2
    shutil.rmtree(kept("table"))
    with pytest.raises(
        RegistryError, match="table@champion: its files are gone; run `latentops promote table`"
    ):
        latentops.load("table@champion")
    assert promote("table").version == 3


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tabel@champion", "no model 'tabel@champion'; models exist for: pictures, series, table"),
        ("table@live", "no model 'table@live'; table has versions 1 and aliases champion"),
        ("table/7", "no model 'table/7'; table has versions 1 and aliases champion"),
        ("a@b@c", "'a@b@c' is not a model's name; write DATASET, DATASET@ALIAS or DATASET/VERSION"),
    ],
)
def test_a_name_that_means_nothing_is_told_what_exists(at_live: Path, name: str, message: str) -> None:
    with pytest.raises(RegistryError, match=re.escape(message)):
        resolve(name)


@pytest.mark.parametrize(
    "name",
    ["table", "table@champion", "table/1", "table-autoencoder@champion", "models:/table-autoencoder/1"],
)
def test_a_model_answers_to_each_of_its_names(at_live: Path, name: str) -> None:
    version = resolve(name)
    assert (version.dataset, version.model, version.number) == ("table", MODEL, 1)


def test_tags_name_every_gate(at_live: Path) -> None:
    tags = resolve("table").tags
    names = ["rivals", "retention", "champion", "parity", "false alarms", "latency", "size", "data"]
    assert {key for key in tags if key.startswith("gate.")} == {f"gate.{name}" for name in names}
    assert tags[candidate.PACKAGE]


def test_a_run_shows_its_versions_gates_as_a_table(at_live: Path) -> None:
    version = resolve("table")
    client = store.connect()
    shown = json.loads(client.get_run(version.run_id).data.tags[tracking.TABLES])
    assert {"path": "gates/version-1.json", "type": "table"} in shown
    assert {"path": tracking.MEMBERS, "type": "table"} in shown
    path = client.download_artifacts(version.run_id, "gates/version-1.json")
    found = json.loads(Path(path).read_text())
    assert found["columns"] == ["gate", "verdict", "value", "limit", "text"]
    rows = {row[0]: row for row in found["data"]}
    assert rows["rivals"] == ["rivals", "passed", 0.04, 0.0, "beats pca-3 by 0.04"]
    assert json.loads(version.tags["gate.latency"])["value"] == pytest.approx(rows["latency"][2], rel=1e-3)
    assert rows["champion"][2:4] == [None, None]
