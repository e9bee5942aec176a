"""report: the leaderboard of all datasets, and the pages that show it with everything behind it."""

from latentops.config import load_params
from latentops.reporting import leaderboard, page, ranks


def run() -> None:
    """Write leaderboard.json, over_datasets.json, index.html and a page a dataset into `reports/`."""
    params = load_params()
    comparisons = leaderboard.write(params.run.datasets)
    ranks.write(comparisons, params.comparison.confidence)
    page.write(params, datasets=params.run.datasets)
