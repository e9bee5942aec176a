"""Columns that predict the label alone: as a rule not because they are good, but because they know it.

Of each column a predictor is fitted on every other row and asked about the rest, and the other way round: of
numbers a small decision tree, of categories the class that each of them goes with most. Missing is a value of
its own. Classes count alike, however rare; one that would be too rare on a side, as where classes take turns,
has every other row of its own on it. Of a label that is a number the rank is predicted, so that no outlier
decides: from numbers by a decision tree again, from categories by the mean rank of each.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Column = NDArray[np.floating] | NDArray[np.object_]
_LEAST = 4  # rows of a class, on either side
_LEAVES = 32  # of a tree that tells a number


def predictive(columns: Mapping[str, Column], labels: Column) -> dict[str, float]:
    """How well each of `columns` [n] predicts `labels` [n] alone: 0 no better than guessing, 1 always right.

    It is the balanced accuracy out of fold, rescaled so that guessing is at 0. Rows without a label are
    passed over, and so is a class of fewer than eight; nothing where fewer than two are left. Of `labels`
    that are numbers it is R² of their ranks out of fold, 0 where it is below, and nothing where fewer than
    sixteen rows have one, or all the same.
    """
    if labels.dtype != object:
        return _ranked(columns, np.asarray(labels, dtype=np.float64))
    folds = np.arange(len(labels)) % 2
    classes = []
    for name in sorted({name for name in labels if name is not None}):
        rows = np.flatnonzero(labels == name)
        if min(np.bincount(folds[rows], minlength=2)) < _LEAST:  # such as of classes that take turns
            folds[rows] = np.arange(len(rows)) % 2
        if len(rows) >= 2 * _LEAST:
            classes.append(name)
    if len(classes) < 2:
        return {}
    known = np.isin(labels.astype(str), classes)
    target = np.searchsorted(classes, labels[known].astype(str))
    folds = folds[known]
    return {name: _skill(column[known], target, folds, len(classes)) for name, column in columns.items()}


def _ranked(columns: Mapping[str, Column], labels: NDArray[np.float64]) -> dict[str, float]:
    known = np.isfinite(labels)
    values, at, counts = np.unique(labels[known], return_inverse=True, return_counts=True)
    if len(at) < 4 * _LEAST or len(values) < 2:
        return {}
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[at]
    return {name: _explained(column[known], ranks) for name, column in columns.items()}


def _explained(column: Column, ranks: NDArray[np.float64]) -> float:
    """R² of `ranks` [n], each told from its row's place in `column` [n] by the other rows of every two."""
    folds = np.arange(len(ranks)) % 2
    told = np.empty(len(ranks))
    for fold in (0, 1):
        fitted, asked = folds != fold, folds == fold
        predict = _means if column.dtype == object else _steps
        told[asked] = predict(column[fitted], ranks[fitted], column[asked])
    return round(max(0.0, float(1 - ((ranks - told) ** 2).mean() / ranks.var())), 4)


def _steps(values: Column, ranks: NDArray[np.float64], asked: Column) -> NDArray[np.float64]:
    from sklearn.tree import DecisionTreeRegressor

    numbers = [np.nan_to_num(each.astype(np.float64), nan=np.nan).reshape(-1, 1) for each in (values, asked)]
    tree = DecisionTreeRegressor(max_leaf_nodes=_LEAVES, min_samples_leaf=2, random_state=0)
    predicted: NDArray[np.float64] = tree.fit(numbers[0], ranks).predict(numbers[1])
    return predicted


def _means(values: Column, ranks: NDArray[np.float64], asked: Column) -> NDArray[np.float64]:
    known, at = np.unique(values.astype(str), return_inverse=True)
    means = np.append(np.bincount(at, ranks) / np.bincount(at), ranks.mean())  # the last: never met
    return np.asarray(means[_places(known, asked)])


def _skill(column: Column, target: NDArray[np.int64], folds: NDArray[np.int64], classes: int) -> float:
    predicted = np.zeros(len(target), np.int64)
    for fold in (0, 1):
        fitted, asked = folds != fold, folds == fold
        counts = np.bincount(target[fitted], minlength=classes)
        predict = _categories if column.dtype == object else _tree
        predicted[asked] = predict(column[fitted], target[fitted], 1 / counts, column[asked])
    hits = np.bincount(target, predicted == target, classes) / np.bincount(target, minlength=classes)
    return round(max(0.0, float((hits.mean() - 1 / classes) / (1 - 1 / classes))), 4)


def _tree(
    values: Column, target: NDArray[np.int64], weights: NDArray[np.float64], asked: Column
) -> NDArray[np.int64]:
    from sklearn.tree import DecisionTreeClassifier

    numbers = [np.nan_to_num(each.astype(np.float64), nan=np.nan).reshape(-1, 1) for each in (values, asked)]
    tree = DecisionTreeClassifier(max_leaf_nodes=4 * len(weights), min_samples_leaf=2, random_state=0)
    return tree.fit(numbers[0], target, sample_weight=weights[target]).predict(numbers[1])


def _categories(
    values: Column, target: NDArray[np.int64], weights: NDArray[np.float64], asked: Column
) -> NDArray[np.int64]:
    known, at = np.unique(values.astype(str), return_inverse=True)
    votes = np.zeros((len(known) + 1, len(weights)))  # the last: of categories that were never met
    np.add.at(votes, (at, target), weights[target])
    return votes.argmax(axis=1)[_places(known, asked)]


def _places(known: NDArray[np.str_], asked: Column) -> NDArray[np.int64]:
    """Where each of `asked` is among `known`, which are in order; after them where it is none of them."""
    found = np.searchsorted(known, asked.astype(str))
    met = found < len(known)
    met[met] = known[found[met]] == asked.astype(str)[met]
    return np.asarray(np.where(met, found, len(known)))
