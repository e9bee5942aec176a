"""Serve the retraining flow on its cron schedule; `make services` runs this beside the servers."""

from prefect.schedules import Cron
from prefect.types.entrypoint import EntrypointType

from latentops.cli import guard
from latentops.config import load_params, params_path
from latentops.errors import ConfigError, LatentOpsError
from pipelines.reproduce import has_server
from pipelines.retrain import retrain

NAME = "scheduled"


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
    retrain.serve(
        name=NAME,
        schedule=schedule,
        limit=1,
        description="New rows → validate → reproduce → gates → promote or hold",
        entrypoint_type=EntrypointType.MODULE_PATH,
    )


if __name__ == "__main__":
    guard(main)
