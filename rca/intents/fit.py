"""Ridge regression on one column per kind (Rifkin, Yeo and Poggio 2003), and temperature scaling
(Guo et al. 2017).

There are fewer examples than features, so the equations are solved per example. Their inverse
also gives, exactly, what a model without some of the examples would say of those."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, sparse
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

Array = NDArray[np.float64]
RIDGE = 1.0


def fit(rows: sparse.csr_matrix, labels: NDArray[np.int64], kinds: int) -> Array:
    """Weights, one row per column of `rows` and one for the constant; one column per kind."""
    dual = linalg.solve(_gram(rows), _target(labels, kinds), assume_a="pos", overwrite_a=True)
    return np.vstack([rows.T @ dual, dual.sum(axis=0)])


def without(
    rows: sparse.csr_matrix, labels: NDArray[np.int64], kinds: int, group: NDArray[np.int64]
) -> Array:
    """Scores of every row by the model that learned from all rows but its group's."""
    gram = _gram(rows).astype(np.float32)  # single precision is half the time
    inverse = linalg.inv(gram, overwrite_a=True, assume_a="pos")
    target = _target(labels, kinds)
    dual, found = inverse @ target, np.zeros_like(target)
    for one in np.unique(group):
        mine = np.flatnonzero(group == one)
        found[mine] = target[mine] - np.linalg.solve(inverse[np.ix_(mine, mine)], dual[mine])
    return found


def _gram(rows: sparse.csr_matrix) -> Array:
    """Products of all rows, each with a constant 1, and the ridge on the diagonal."""
    products = (rows @ rows.T).toarray() + 1.0
    products[np.diag_indices_from(products)] += RIDGE
    return np.asarray(products)


def _target(labels: NDArray[np.int64], kinds: int) -> Array:
    target = np.zeros((labels.size, kinds))
    target[np.arange(labels.size), labels] = 1.0
    return target


def scores(rows: sparse.csr_matrix, weights: Array) -> Array:
    """How much speaks for each kind, per row."""
    return np.asarray(rows @ weights[:-1] + weights[-1])


def temperature(held_out: Array, labels: NDArray[np.int64]) -> float:
    """By what scores are divided so that their softmax is as sure as it is right."""

    def loss(log_t: float) -> float:
        logs = log_softmax(held_out / np.exp(log_t), axis=1)
        return float(-logs[np.arange(labels.size), labels].mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-6, 3), method="bounded").x))


def chances(found: Array, at: float) -> Array:
    """Calibrated probabilities."""
    return np.asarray(softmax(found / at, axis=1))
