"""report: the leaderboard of all datasets, and the pages that show it with everything behind it."""

from latentops.config import load_params
from latentops.reporting import leaderboard, page


def run() -> None:
    """Write `reports/leaderboard.json`, then `reports/index.html` and a page a dataset beside it."""
    params = load_params()
    leaderboard.write(params.run.datasets)
    page.write(params, datasets=params.run.datasets)
