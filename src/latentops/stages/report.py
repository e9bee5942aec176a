"""report: the leaderboard of all datasets, and the page that shows it with everything behind it."""

from latentops.config import load_params
from latentops.reporting import leaderboard, page


def run() -> None:
    """Write `reports/leaderboard.json`, then `var/report/index.html`."""
    datasets = load_params().run.datasets
    leaderboard.write(datasets)
    page.write(datasets=datasets)
