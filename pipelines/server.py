"""Prefect's server, to which our kinds of notification blocks are known: `python -m pipelines.server start`.

Automations run in the server, so it needs the code of every block that they send through.
"""

import sys

from prefect.cli import app

from pipelines import notices

__all__ = ["notices"]

if __name__ == "__main__":
    sys.argv.insert(1, "server")
    app()
