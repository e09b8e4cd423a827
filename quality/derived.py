"""`red` and `edges`, derived from `spans`: first what each span adds to them, then its sum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from lake import TABLES

GAMMA = 1.02  # ratio of neighbouring buckets of a sketch: quantiles are right within 1 %
QUANTILES = (50, 90, 95, 99)
PLACE = ("cluster", "namespace", "environment")
RED = ("service", "operation", "kind", *PLACE)
EDGES = ("caller", "callee", *PLACE)
MINUTE = 60_000_000_000  # ns
_BITS = 12  # of a bucket's number
_WIDE = 42  # bits of a time within a span that need no second key to sort by
Numbers = npt.NDArray[Any]


def self_time(start: Numbers, duration: Numbers, parent: Numbers, waits: Numbers) -> Numbers:
    """Durations less the time a span's children cover (their union, inside the span), in ns.

    `parent` is the place of each row's parent, -1 without one; `waits` is false for a row that
    its parent does not wait for (what a consumer does afterwards is not subtracted).
    """
    child = np.flatnonzero((parent >= 0) & waits)
    above, end = parent[child], start + duration
    low = np.maximum(start[child], start[above])
    high = np.minimum(end[child], end[above])
    inside = high > low
    above, low, high = above[inside], low[inside], high[inside]
    if not len(above):
        return np.maximum(duration, 0)
    order = _by_parent(above, low - start[above])
    above, low, high = above[order], low[order], high[order]
    begins = np.concatenate([[True], above[1:] != above[:-1]])
    before = np.concatenate([[0], _running(above, high)[:-1]])
    fresh = high - np.where(begins, low, np.maximum(low, before))
    first = np.flatnonzero(begins)
    left = duration.copy()
    left[above[first]] -= np.add.reduceat(np.maximum(fresh, 0), first)
    return np.maximum(left, 0)


def _by_parent(above: Numbers, offset: Numbers) -> Numbers:
    if int(offset.max()).bit_length() <= _WIDE and len(above) < 1 << 62 - _WIDE:
        return np.argsort((above.astype(np.int64) << _WIDE) | offset, kind="stable")
    return np.lexsort((offset, above))


def _running(above: Numbers, high: Numbers) -> Numbers:
    """The greatest `high` so far among the rows of the same parent; rows are sorted by parent.

    Highs are replaced by their ranks, so that parent and rank make one number to take maxima of.
    """
    order = np.argsort(high, kind="stable")
    rank = np.empty(len(high), np.int64)
    rank[order] = np.arange(len(high))
    bits = len(high).bit_length()
    best = np.maximum.accumulate((above.astype(np.int64) << bits) | rank)
    greatest: npt.NDArray[np.int64] = high[order[best & ((1 << bits) - 1)]]
    return greatest


def red(parts: Sequence[pa.Table]) -> pl.DataFrame:
    """Rows of `red` from what spans add (minute, `RED`, error, duration_ns, self_ns)."""
    rows, group, keys = _grouped(parts, RED)
    took = _sketched(group, rows["duration_ns"])
    own = _sketched(group, rows["self_ns"])
    made = keys.with_columns(
        *_quantiles(took, "duration"), *_quantiles(own, "self"), _texts(took, keys.height)
    )
    return made.select(TABLES["red"].schema.names)


def edges(parts: Sequence[pa.Table]) -> pl.DataFrame:
    """Rows of `edges` from what calls add (minute, `EDGES`, error, duration_ns)."""
    rows, group, keys = _grouped(parts, EDGES)
    took = _sketched(group, rows["duration_ns"])
    made = keys.with_columns(*_quantiles(took, "duration"))
    return made.select(TABLES["edges"].schema.names)


def _grouped(
    parts: Sequence[pa.Table], names: Sequence[str]
) -> tuple[dict[str, Numbers], Numbers, pl.DataFrame]:
    """The numbers of all rows, each row's group, and the groups with their calls and errors."""
    whole = pa.concat_tables(parts).unify_dictionaries().combine_chunks()
    numbers = {
        name: whole[name].to_numpy()
        for name in ("minute", "error", "duration_ns", "self_ns")
        if name in whole.schema.names
    }
    key = numbers["minute"].astype(np.int64)
    for name in names:
        column = whole[name].combine_chunks()
        codes = column.indices.fill_null(-1).to_numpy().astype(np.int64) + 1
        key = key * (len(column.dictionary) + 1) + codes
        if len(key) and int(np.abs(key).max()).bit_length() > 40:
            key = np.unique(key, return_inverse=True)[1]
    _, first, group = np.unique(key, return_index=True, return_inverse=True)
    calls = np.bincount(group, minlength=len(first)).astype(np.float64)
    errors = np.bincount(group, numbers["error"], len(first)).astype(np.float64)
    keys = pl.DataFrame(pl.from_arrow(whole.select(list(names)).take(pa.array(first))))
    keys = keys.with_columns(pl.col(pl.Categorical).cast(pl.String))
    at = pl.Series(numbers["minute"][first].astype(np.int64) * (MINUTE // 1000), dtype=pl.Int64)
    minute = at.cast(pl.Datetime("us", "UTC")).alias("minute")
    return (
        numbers,
        group,
        keys.with_columns(
            minute,
            minute.dt.date().alias("date"),
            pl.Series("calls", calls),
            pl.Series("errors", errors),
        ),
    )


def _sketched(group: Numbers, values: Numbers) -> Numbers:
    """Sorted numbers of group and bucket, one per row; bucket b holds values v with
    ceil(log(v) / log(γ)) = b (DDSketch, VLDB 2019)."""
    bucket = np.ceil(np.log(np.maximum(values, 1).astype(np.float64)) / np.log(GAMMA))
    return np.sort((group.astype(np.int64) << _BITS) | bucket.astype(np.int64))


def _quantiles(sketch: Numbers, name: str) -> list[pl.Series]:
    """Each group's quantiles: the middle of the bucket that holds the nearest rank."""
    group = sketch >> _BITS
    first = np.flatnonzero(np.concatenate([[True], group[1:] != group[:-1]])[: len(group)])
    last = np.diff(np.append(first, len(group))) - 1
    found = []
    for q in QUANTILES:
        bucket = sketch[first + np.rint(last * q / 100).astype(np.int64)] & ((1 << _BITS) - 1)
        middle = np.rint(2 * GAMMA ** bucket.astype(np.float64) / (1 + GAMMA)).astype(np.int64)
        found.append(pl.Series(f"{name}_p{q}_ns", middle))
    return found


def _texts(sketch: Numbers, groups: int) -> pl.Series:
    """A mergeable sketch per group: text `bucket:count,…` as bytes; add the counts of equal
    buckets to merge two."""
    if not groups:
        return pl.Series("sketch", [], pl.Binary)
    first = np.flatnonzero(np.concatenate([[True], sketch[1:] != sketch[:-1]]))
    counts = np.diff(np.append(first, len(sketch)))
    one = sketch[first]
    pairs = pl.DataFrame({"group": one >> _BITS, "b": one & ((1 << _BITS) - 1), "n": counts})
    text = pl.format("{}:{}", "b", "n").str.join(",").alias("sketch")
    found = pairs.group_by("group", maintain_order=True).agg(text)
    return found["sketch"].cast(pl.Binary)
