"""Which model is live: promotion through gates, undoing it, and what happened so far.

What a gate holds back is registered too, as the `challenger`: a reviewer finds it beside the champion, and
rejects it, or promotes it against the gate.

A promotion goes in this order, under one lock: package, registered version with all its tags, ledger line,
alias `previous`, alias `champion`; and from then on nothing is challenger. Whatever stops it, the live model
is the old one or the new one, and never one that the ledger doesn't know; the next call finishes what the
ledger's last line began, and says so on stderr.
"""

import sys
from dataclasses import dataclass
from typing import Any

from mlflow import MlflowClient

from latentops.config import load_params
from latentops.errors import RegistryError
from latentops.registry import ledger, results, store, versions
from latentops.registry.candidate import (
    FORCED,
    PACKAGE,
    REJECTED,
    SEED,
    VARIANT,
    Candidate,
)
from latentops.registry.gates import Card, Gate, plain
from latentops.registry.versions import CHALLENGER, CHAMPION, PREVIOUS, Version

HOLDER = "another command that promotes, rejects or rolls back"
APPROVAL = "approval"
"""The gate of what waits for a person."""
ROLLED_BACK = "rolled back"
"""The gate of what was live until it was rolled back."""


@dataclass(frozen=True)
class Decision:
    """What a promotion, a rejection or a rollback came to.

    `promoted` says that the alias `champion` moved, `version` which version is live now (none if none ever
    was) and `previous` which one was before. `text` is one line for a person.
    """

    dataset: str
    promoted: bool
    version: int | None
    previous: int | None
    variant: str | None
    seed: int | None
    content_hash: str | None
    gates: tuple[Gate, ...]
    text: str

    @property
    def held(self) -> tuple[Gate, ...]:
        """The gates that were not passed."""
        return tuple(gate for gate in self.gates if not gate.passed)


def promote(
    dataset: str, *, reason: str = "", card: Card | None = None, force: bool = False, approved: bool = True
) -> Decision:
    """Make the chosen variant of `dataset` its champion, if every gate lets it.

    The gates are those of the comparison and those of `latentops.registry.gates`. Where one holds, the
    champion stays, the decision names the gate, and the version is the challenger, unless it was rejected
    before. What isn't `approved` yet is held by a gate of that name, and so is what was rolled back last, or
    the next run would make it live again. With `force`, which needs a `reason`, it
    is champion nevertheless, and marked as forced. Where the same content is champion already, nothing is
    done. `card` writes the model card, `reason` goes into the ledger. Raises `RegistryError` where a result
    or its recorded run is missing, or a reason.
    """
    if force and not reason.strip():
        raise RegistryError(f"{dataset}: a forced promotion needs a reason, which stays with the version")
    params = load_params()
    params.dataset(dataset)
    compared = results.comparison(dataset)
    client = store.connect()
    with store.plain_errors(), store.locked("promotion", HOLDER):
        _finish(client, dataset)
        champion = versions.aliased(client, dataset, CHAMPION)
        chosen = compared.get("chosen")
        if not chosen:
            text = (
                f"{dataset}: nothing was chosen, so nothing is promoted; see results/compare/{dataset}.json"
            )
            return _unmoved(dataset, champion, (), text)
        candidate = Candidate(client, params, dataset, compared)
        if champion is not None and candidate.is_version(champion):
            text = f"{dataset}: {candidate.label} is champion already (version {champion.number})"
            return _unmoved(dataset, champion, (), text)
        version = candidate.register()
        gates = candidate.gates(version, champion)
        if not approved:
            gates = (*gates, Gate(APPROVAL, None, None, False, f"waits for `latentops promote {dataset}`"))
        if (undone := _undone(version)) is not None:
            why = f"version {version.number} was rolled back: {undone['why']}"
            gates = (*gates, Gate(ROLLED_BACK, None, None, False, why))
        candidate.mark(version, gates, card)
        held = "; ".join(f"{gate.gate}: {gate.text}" for gate in gates if not gate.passed)
        if held and not force:
            now = _challenge(client, version, champion, gates, held)
            return _unmoved(dataset, champion, gates, f"{dataset}: {candidate.label} held by {held}; {now}")
        entry: dict[str, Any] = {
            "event": "promote",
            "why": reason or "passed every gate",
            "gates": plain(gates),
        }
        if held:
            entry["forced"] = True
        _move(client, entry, version, champion)
        text = f"{dataset}: {candidate.label} is champion (version {version.number})"
        return _decision(version, champion, gates, f"{text}, forced past {held}" if held else text)


def reject(dataset: str, *, reason: str) -> Decision:
    """Turn the challenger down: it loses its alias, keeps the reason, and isn't challenger again.

    Where that was done last, nothing is. Raises `RegistryError` where there is no challenger, or no reason.
    """
    if not reason.strip():
        raise RegistryError(f"{dataset}: a rejection needs a reason, which stays with the version")
    client = store.connect()
    with store.plain_errors(), store.locked("promotion", HOLDER):
        _finish(client, dataset)
        champion = versions.aliased(client, dataset, CHAMPION)
        challenger = versions.aliased(client, dataset, CHALLENGER)
        last = ledger.entries(dataset)[-1:]
        if challenger is None and last and last[0]["event"] == "reject":
            told = f"version {last[0]['version']} is rejected already: {last[0]['why']}"
            return _unmoved(dataset, champion, (), f"{dataset}: {told}")
        if challenger is None:
            raise RegistryError(f"{dataset}: there is no challenger; see `latentops history {dataset}`")
        _write({"event": "reject", "why": reason, "gates": []}, challenger, champion)
        _turn_down(client, challenger, reason)
        return _unmoved(dataset, champion, (), f"{dataset}: version {challenger.number} is rejected")


def rollback(dataset: str, *, reason: str = "") -> Decision:
    """Make the previous champion live again, and the present one previous.

    Where that was done last, nothing is: what was rolled back is live again by a forced promotion. Raises
    `RegistryError` where there is no previous champion.
    """
    client = store.connect()
    with store.plain_errors(), store.locked("promotion", HOLDER):
        _finish(client, dataset)
        champion = versions.resolve_with(client, f"{dataset}@{CHAMPION}")
        previous = versions.aliased(client, dataset, PREVIOUS)
        if previous is None:
            raise RegistryError(
                f"{dataset}: nothing to roll back to, version {champion.number} is the first champion"
            )
        if (undone := _undone(previous)) is not None:
            told = f"version {champion.number} is champion since version {previous.number} was rolled back"
            forth = f"`latentops promote {dataset} --force` goes forth again"
            return _unmoved(dataset, champion, (), f"{dataset}: {told} ({undone['why']}); {forth}")
        why = reason or "rolled back by hand"
        _move(client, {"event": "rollback", "why": why, "gates": []}, previous, champion)
        text = (
            f"{dataset}: version {previous.number} is champion again, version {champion.number} is previous"
        )
        return _decision(previous, champion, (), text)


def history(dataset: str) -> list[dict[str, Any]]:
    """The ledger's lines about `dataset`, the oldest first."""
    return ledger.entries(dataset)


def _undone(version: Version) -> dict[str, Any] | None:
    """The ledger's line of the rollback from `version`, if that is the last that moved the champion."""
    moves = ledger.moves(version.dataset)
    last = moves[-1] if moves else {}
    return last if last.get("event") == "rollback" and last["previous"] == version.number else None


def _challenge(
    client: MlflowClient, version: Version, champion: Version | None, gates: tuple[Gate, ...], held: str
) -> str:
    """Make what is `held` the challenger, if it wasn't rejected; what it is now."""
    if REJECTED in version.tags:
        return f"version {version.number} was rejected: {version.tags[REJECTED]}"
    challenger = versions.aliased(client, version.dataset, CHALLENGER)
    if challenger is None or challenger.number != version.number:
        _write({"event": "hold", "why": f"held by {held}", "gates": plain(gates)}, version, champion)
        client.set_registered_model_alias(version.model, CHALLENGER, str(version.number))
    return f"version {version.number} is challenger"


def _turn_down(client: MlflowClient, challenger: Version, reason: str) -> None:
    client.set_model_version_tag(challenger.model, str(challenger.number), REJECTED, reason)
    client.delete_registered_model_alias(challenger.model, CHALLENGER)


def _move(client: MlflowClient, entry: dict[str, Any], version: Version, champion: Version | None) -> None:
    """Write the ledger's line; then do what it says."""
    _carry_out(client, version, _write(entry, version, champion))


def _write(entry: dict[str, Any], version: Version, champion: Version | None) -> dict[str, Any]:
    """Add a line to the ledger: `entry`, all that identifies `version`, and which version was champion."""
    return ledger.append(
        {
            **entry,
            "dataset": version.dataset,
            "model": version.model,
            "version": version.number,
            "previous": champion.number if champion else None,
            "variant": version.tags[VARIANT],
            "seed": int(version.tags[SEED]),
            "content_hash": version.tags[results.CONTENT],
            "package_sha256": version.tags[PACKAGE],
        }
    )


def _carry_out(client: MlflowClient, version: Version, line: dict[str, Any]) -> None:
    """Mark `version` and move the aliases as the ledger's `line` of a promotion or a rollback says."""
    if line.get("forced"):
        client.set_model_version_tag(version.model, str(version.number), FORCED, str(line["why"]))
    if line["previous"] is not None:
        client.set_registered_model_alias(version.model, PREVIOUS, str(line["previous"]))
    client.set_registered_model_alias(version.model, CHAMPION, str(version.number))
    if line["event"] == "promote":
        _retire_challenger(client, version.dataset)


def _retire_challenger(client: MlflowClient, dataset: str) -> None:
    challenger = versions.aliased(client, dataset, CHALLENGER)
    if challenger is not None:
        client.delete_registered_model_alias(challenger.model, CHALLENGER)


def _finish(client: MlflowClient, dataset: str) -> None:
    """Move the aliases as the ledger's last line says, if that was cut short; stderr says what it was."""
    lines = ledger.entries(dataset)
    if not lines:
        return
    last, event = lines[-1], str(lines[-1]["event"])
    wanted = (last["version"], last["package_sha256"])
    found = [v for v in versions.versions(client, dataset) if (v.number, v.tags.get(PACKAGE)) == wanted]
    if not found:
        return
    if event in ledger.MOVES:
        finished = _finish_move(client, found[0], last)
    else:
        challenger = versions.aliased(client, dataset, CHALLENGER)
        is_challenger = challenger is not None and challenger.number == found[0].number
        finished = is_challenger == (event == "reject")
        if finished and event == "hold":
            client.set_registered_model_alias(found[0].model, CHALLENGER, str(found[0].number))
        elif finished:
            _turn_down(client, found[0], str(last["why"]))
    if finished:
        told = f"finished the {event} of version {found[0].number}, which was cut short"
        print(f"{dataset}: {told}", file=sys.stderr, flush=True)


def _finish_move(client: MlflowClient, version: Version, line: dict[str, Any]) -> bool:
    """Whether the aliases had still to be moved to the champion of `line`."""
    champion = versions.aliased(client, version.dataset, CHAMPION)
    now = champion.number if champion else None
    cut_short = now != line["version"] and now == line["previous"]
    if cut_short:
        _carry_out(client, version, line)
    elif line["event"] == "promote" and now == line["version"]:
        _retire_challenger(client, version.dataset)
    return cut_short


def _decision(version: Version, champion: Version | None, gates: tuple[Gate, ...], text: str) -> Decision:
    return Decision(
        dataset=version.dataset,
        promoted=True,
        version=version.number,
        previous=champion.number if champion else None,
        variant=version.tags[VARIANT],
        seed=int(version.tags[SEED]),
        content_hash=version.tags[results.CONTENT],
        gates=gates,
        text=text,
    )


def _unmoved(dataset: str, champion: Version | None, gates: tuple[Gate, ...], text: str) -> Decision:
    """The aliases stay: `version` is the champion there was."""
    tags = champion.tags if champion else {}
    return Decision(
        dataset=dataset,
        promoted=False,
        version=champion.number if champion else None,
        previous=None,
        variant=tags.get(VARIANT),
        seed=int(tags[SEED]) if SEED in tags else None,
        content_hash=tags.get(results.CONTENT),
        gates=gates,
        text=text,
    )
