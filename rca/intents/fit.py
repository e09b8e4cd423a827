"""Multinomial logistic regression by scipy's L-BFGS, and temperature scaling (Guo et al. 2017)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import minimize, minimize_scalar
from scipy.special import log_softmax, softmax

Array = NDArray[np.float64]


def fit(
    rows: sparse.csr_matrix, labels: NDArray[np.int64], kinds: int, ridge: float = 2e-4
) -> Array:
    """Weights, one row per column of `rows` and one for the constant; one column per kind."""
    full = sparse.hstack([rows, np.ones((rows.shape[0], 1))], format="csr")
    target = np.zeros((full.shape[0], kinds))
    target[np.arange(full.shape[0]), labels] = 1.0
    shape = (full.shape[1], kinds)
    turned = full.T.tocsr()

    def loss(flat: Array) -> tuple[float, Array]:
        weights = flat.reshape(shape)
        logs = log_softmax(full @ weights, axis=1)
        slope = turned @ (np.exp(logs) - target) / full.shape[0] + ridge * weights
        value = -(logs * target).sum() / full.shape[0] + 0.5 * ridge * (weights**2).sum()
        return float(value), slope.ravel()

    found = minimize(
        loss, np.zeros(shape[0] * shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 150}
    )
    return np.asarray(found.x).reshape(shape)


def scores(rows: sparse.csr_matrix, weights: Array) -> Array:
    """How much speaks for each kind, per row."""
    return np.asarray(rows @ weights[:-1] + weights[-1])


def temperature(held_out: Array, labels: NDArray[np.int64]) -> float:
    """By what scores are divided so that their softmax is as sure as it is right."""

    def loss(log_t: float) -> float:
        logs = log_softmax(held_out / np.exp(log_t), axis=1)
        return float(-logs[np.arange(labels.size), labels].mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x))


def chances(found: Array, at: float) -> Array:
    """Calibrated probabilities."""
    return np.asarray(softmax(found / at, axis=1))
