"""Jaeger's clock-skew adjuster, from its published formula (internal/uiconv … clockskew.go, v1.5x):
for comparison.

Per trace, from the root down: a span on another host than the skew at hand gets a shift of its own,
latency = (parent's duration − child's) / 2, shift = parent.start + latency − child.start, unless it
already lies inside its parent; a child that lasts longer than its parent is only moved up to its
parent's start. Spans of the same host below inherit the shift; a missing host counts as foreign.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from quality.rules.parent_cycle import parents

Longs = npt.NDArray[np.int64]


def adjusted(spans: pl.DataFrame) -> Longs:
    """start_ns of every row after the adjuster, whatever the shift's size."""
    parent = parents(spans)
    host = spans["host"].fill_null("").rank("dense").to_numpy().astype(np.int64)
    host[spans["host"].is_null().to_numpy()] = -1
    start, length = spans["start_ns"].to_numpy().copy(), spans["duration_ns"].to_numpy()
    skew, key = np.zeros(len(start), np.int64), np.full(len(start), -2)
    level = np.flatnonzero(parent < 0)
    order = np.argsort(parent, kind="stable")
    first = np.searchsorted(parent[order], np.arange(len(start) + 1))
    while len(level):
        counts = first[level + 1] - first[level]
        total = int(counts.sum())
        at = np.repeat(first[level] - np.concatenate([[0], np.cumsum(counts)[:-1]]), counts)
        level = order[at + np.arange(total)]
        above = parent[level]
        own = (host[level] != key[above]) | (host[level] == -1)
        delta = _shift(start[above], length[above], start[level], length[level])
        skew[level] = np.where(own, delta, skew[above])
        key[level] = np.where(own, host[level], key[above])
        start[level] += skew[level]
    return start


def _shift(start: Longs, length: Longs, child: Longs, took: Longs) -> Longs:
    inside = (child >= start) & (child + took <= start + length)
    middle = start + (length - took) // 2 - child
    longer = np.maximum(start - child, 0)
    return np.where(took > length, longer, np.where(inside, 0, middle))
