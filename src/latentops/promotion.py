"""Promotion as people and flows do it: the registry's gates, with the model card of the reporting."""

from collections.abc import Sequence

from latentops.config import load_params
from latentops.registry import champion, tracking
from latentops.registry.champion import Decision
from latentops.registry.gates import Gate
from latentops.reporting.card import card_for
from latentops.reporting.profiles import drawings


def promote(dataset: str, reason: str = "", *, force: bool = False, approved: bool = True) -> Decision:
    """Make what was chosen for `dataset` its champion, if every gate lets it; see `champion.promote`.

    What the store lacks is recorded first: DVC has no reason to rerun `record` where git already holds its
    out, as in a fresh clone.
    """
    params = load_params()
    tracking.complete(dataset, params, drawings)

    def card(model: str, gates: Sequence[Gate]) -> str:
        return card_for(dataset, params, model=model, gates=gates)

    return champion.promote(dataset, reason=reason, card=card, force=force, approved=approved)
