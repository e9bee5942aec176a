"""Neighbours are those of all distances in float64, whatever float32 can tell apart."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from latentops.evaluation import neighbours
from latentops.evaluation.neighbours import nearest

RANDOM = np.random.default_rng(0)
PLAIN = RANDOM.normal(size=(3000, 8))

CASES = {
    "plain": (PLAIN, RANDOM.normal(size=(300, 8))),
    "heavy tails": (RANDOM.standard_cauchy(size=(3000, 4)), RANDOM.standard_cauchy(size=(300, 4))),
    "queries far out": (PLAIN, 1e4 * RANDOM.normal(size=(300, 8))),
    "one row far out": (np.concatenate([PLAIN, np.full((1, 8), 1e6)]), PLAIN[:300] + 1e-3),
    "tight groups": (1e3 * PLAIN[:30].repeat(100, axis=0) + 1e-4 * PLAIN, 1e3 * PLAIN[:300]),
    "duplicates": (PLAIN[:20].repeat(150, axis=0), PLAIN[:20]),
    "ties": (PLAIN[:20].repeat(150, axis=0), PLAIN[:40]),
    "few rows": (PLAIN[:7], PLAIN[:50]),
    "beyond float32": (1e25 * PLAIN, 1e25 * PLAIN[:50] + 1e24),
    "queries beyond float32": (PLAIN, 1e25 * PLAIN[:50]),
}


@pytest.mark.parametrize("case", CASES)
def test_neighbours_are_those_of_all_distances(case: str) -> None:
    reference, queries = CASES[case]
    found = list(nearest(reference, queries, 5))
    rows, squares = (torch.cat(each).numpy() for each in zip(*found, strict=True))
    distances = ((reference[None] - queries[:, None]) ** 2).sum(2)
    assert np.allclose(squares, np.sort(distances, axis=1)[:, :5], rtol=1e-7, atol=1e-18)
    assert np.allclose(squares, np.take_along_axis(distances, rows, axis=1), rtol=1e-7, atol=1e-18)
    assert (np.diff(np.sort(rows, axis=1), axis=1) > 0).all()


@pytest.mark.parametrize(("case", "again"), [("plain", False), ("duplicates", False), ("tight groups", True)])
def test_float64_searches_where_float32_may_have_passed_a_row_over(
    case: str, again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: set[torch.dtype] = set()
    search = neighbours._nearest

    def watched(known: torch.Tensor, block: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        asked.add(block.dtype)
        return search(known, block, count)

    monkeypatch.setattr(neighbours, "_nearest", watched)
    reference, queries = CASES[case]
    list(nearest(reference, queries, 5))
    assert asked == ({torch.float32, torch.float64} if again else {torch.float32})


def test_no_queries_have_no_neighbours() -> None:
    nothing: NDArray[np.float64] = np.zeros((0, 8))
    assert list(nearest(PLAIN, nothing, 5)) == []
