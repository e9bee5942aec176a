"""Prefect: schedules, parallelism, retries. It calls DVC, which alone knows what is stale.

Prefect reads its environment while it is imported, so what keeps it inside the project is said here first.
"""

import os
from pathlib import Path

_home = Path(os.environ.setdefault("PREFECT_HOME", str(Path("var/prefect").absolute())))
_home.mkdir(parents=True, exist_ok=True)  # Prefect makes no parents, and then fails minutes later
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # a stage has one thread; parallelism is processes
