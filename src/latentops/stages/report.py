"""report: the leaderboard of all datasets, and the page that shows it with everything behind it."""

from latentops.config import load_params
from latentops.reporting import leaderboard, page, ranks


def run() -> None:
    """Write `reports/leaderboard.json` and `reports/over_datasets.json`, then `var/report/index.html`."""
    params = load_params()
    comparisons = leaderboard.write(params.run.datasets)
    ranks.write(comparisons, params.comparison.confidence)
    page.write(datasets=params.run.datasets)
