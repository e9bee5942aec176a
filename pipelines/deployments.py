"""Serve the retraining flow on its cron schedule; `make services` runs this beside the servers."""

from collections.abc import Iterable
from typing import cast
from uuid import UUID

from prefect.automations import Automation, EventTrigger, Posture, ResourceSpecification, SendNotification
from prefect.blocks.abstract import NotificationBlock
from prefect.schedules import Cron
from prefect.types.entrypoint import EntrypointType

from latentops.cli import guard
from latentops.config import load_params, params_path
from latentops.errors import ConfigError, LatentOpsError
from pipelines import notices
from pipelines.reproduce import has_server
from pipelines.retrain import retrain

NAME = "scheduled"
WATCH = "latentops: retrain failed, crashed or late"


def main() -> None:
    """Register the deployment and run what falls due, one run at a time, until stopped."""
    if not has_server():
        raise LatentOpsError(
            "schedules need a Prefect server (PREFECT_API_URL is not set): run `make services`"
        )
    cron = load_params().retrain.cron
    try:
        schedule = Cron(cron)
    except ValueError:
        raise ConfigError(f"{params_path()}: retrain.cron: {cron!r} is no cron expression") from None
    watch(notices.blocks().values())
    retrain.serve(
        name=NAME,
        schedule=schedule,
        limit=1,
        description="New rows → validate → reproduce → gates → promote or hold",
        entrypoint_type=EntrypointType.MODULE_PATH,
    )


def watch(blocks: Iterable[NotificationBlock]) -> None:
    """Have the server itself tell `blocks` of a retraining that failed, crashed or is late; of none for none.

    A process that was ended can't. The state's message stays behind, because it may quote values out of rows.
    """
    wanted = Automation(
        name=WATCH,
        description="Kept by pipelines/deployments.py, from retrain.notify",
        trigger=EventTrigger(
            expect={f"prefect.flow-run.{state}" for state in ("Failed", "Crashed", "Late")},
            match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
            match_related=ResourceSpecification(
                {"prefect.resource.role": "flow", "prefect.resource.name": retrain.name}
            ),
            for_each={"prefect.resource.id"},
            posture=Posture.Reactive,
        ),
        actions=[
            SendNotification(
                block_document_id=cast(UUID, block._block_document_id),
                subject="LatentOps: {{ flow.name }}: {{ flow_run.state.name | lower }}",
                body="{{ flow_run.name }} is {{ flow_run.state.name | lower }}\n{{ flow_run | ui_url }}",
            )
            for block in blocks
        ],
    )
    try:
        found = cast(Automation, Automation.read(name=WATCH))
    except ValueError:
        if wanted.actions:
            wanted.create()
        return
    if wanted.actions:
        wanted.id, wanted.enabled = found.id, found.enabled
        wanted.update()
    else:
        found.delete()


if __name__ == "__main__":
    guard(main)
