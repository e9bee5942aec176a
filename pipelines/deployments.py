"""Serve the retraining flow on its cron schedule; `make services` runs this beside the servers."""

from prefect.types.entrypoint import EntrypointType

from latentops.cli import guard
from latentops.config import load_params
from latentops.errors import LatentOpsError
from pipelines.reproduce import has_server
from pipelines.retrain import retrain

NAME = "scheduled"


def main() -> None:
    """Register the deployment and run what falls due, one run at a time, until stopped."""
    if not has_server():
        raise LatentOpsError(
            "schedules need a Prefect server (PREFECT_API_URL is not set): run `make services`"
        )
    retrain.serve(
        name=NAME,
        cron=load_params().retrain.cron,
        limit=1,
        description="New rows → validate → reproduce → gates → promote or hold",
        entrypoint_type=EntrypointType.MODULE_PATH,
    )


if __name__ == "__main__":
    guard(main)
