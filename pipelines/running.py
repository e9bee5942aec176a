"""A flow as a command runs it: how it failed is one line, as of any other command."""

from typing import Any

import httpx
from prefect import Flow
from prefect.client.schemas.objects import State

from latentops.errors import LatentOpsError


def run(flow: Flow[..., State[Any]], *arguments: object, **named: object) -> None:
    """Run a flow to its end; `LatentOpsError` in its own words where that isn't a good one."""
    try:
        state: State[Any] = flow(*arguments, **named, return_state=True)
    except httpx.HTTPError as error:
        raise LatentOpsError(
            f"Prefect's server went away ({str(error) or type(error).__name__}); start it again, then this: "
            "what has been done is kept"
        ) from error
    if not state.is_completed():
        raise LatentOpsError(state.message or f"the flow ended as {state.name}")
