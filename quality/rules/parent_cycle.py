"""A span that is its own ancestor: the link is cut at the loop's earliest span, which is marked.

Clocks differ from host to host, so of spans that wait for each other the earliest is the one that
lasts longest: it holds the others. A loop whose earliest span is not evident is marked whole and
left alone.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from quality import marks
from quality.rules.time_unit import plausible

NAME = "parent_cycle"
Index = npt.NDArray[np.int64]


def apply(spans: pl.DataFrame) -> pl.DataFrame:
    """No link closes a loop, or every row of the loop has the rule's name in `faults`; the cut
    rows carry it in `repaired`."""
    parent = parents(spans)
    on_loop = looping(parent)
    if not len(on_loop):
        return spans
    cut, unsure = _cuts(_loops(spans, parent, on_loop))
    here = pl.int_range(pl.len()).is_in(cut.implode())
    left = pl.int_range(pl.len()).is_in(unsure.implode())
    return spans.with_columns(
        pl.when(here).then(None).otherwise("parent_span_id").alias("parent_span_id"),
        marks.repaired(NAME, here),
        marks.fault(NAME, left),
    )


def parents(spans: pl.DataFrame) -> Index:
    """The position of each row's parent in the frame, -1 where there is none."""
    places = spans.select(
        "trace_id", parent_span_id="span_id", place=pl.int_range(pl.len(), dtype=pl.Int64)
    )
    places = places.unique(["trace_id", "parent_span_id"], keep="first", maintain_order=True)
    joined = spans.select("trace_id", "parent_span_id").join(
        places, on=["trace_id", "parent_span_id"], how="left", maintain_order="left"
    )
    return joined["place"].fill_null(-1).to_numpy()


def looping(parent: Index) -> Index:
    """The positions that lie on a loop. Following links 2^k steps at once, a round in which no
    row more comes to an end leaves only those that never do."""
    size = len(parent)
    far = np.append(np.where(parent < 0, size, parent), size)
    left = np.flatnonzero(far[:size] < size)
    while True:
        far[left] = far[far[left]]
        after = left[far[left] < size]
        if len(after) == len(left):
            return np.unique(_around(far, left)) if len(left) else left
        left = after


def _around(far: Index, left: Index) -> Index:
    """Where rows that never come to an end are after as many steps as there are rows."""
    for _ in range(max(len(left).bit_length(), 1)):
        far[left] = far[far[left]]
    return far[left]


def _loops(spans: pl.DataFrame, parent: Index, on_loop: Index) -> pl.DataFrame:
    """The rows on loops with the `loop` they are of: the least position on it."""
    label = np.arange(len(parent))
    for _ in range(len(on_loop)):
        least = np.minimum(label[on_loop], label[parent[on_loop]])
        if (least == label[on_loop]).all():
            break
        label[on_loop] = least
    rows = spans.select("kind", "row_key", "start_ns", "duration_ns", "ingested_at")[on_loop]
    return rows.with_columns(place=pl.Series(on_loop), loop=pl.Series(label[on_loop]))


def _cuts(rows: pl.DataFrame) -> tuple[pl.Series, pl.Series]:
    """(positions to cut at, positions on loops that stay)."""
    sound = plausible(pl.col("start_ns")) & (pl.col("duration_ns") >= 0)
    queued = pl.col("kind").is_in(["producer", "consumer"]).fill_null(value=False)
    first, longest = pl.col("start_ns").min(), pl.col("duration_ns").max()
    ranked = rows.with_columns(
        sound.fill_null(value=False).all().over("loop").alias("sound"),
        (queued.any().over("loop")).alias("queued"),
        (pl.col("start_ns") == first.over("loop")).alias("first"),
        (pl.col("duration_ns") == longest.over("loop")).alias("longest"),
        pl.len().over("loop").alias("rows"),
    )
    earliest = pl.col("longest") & (pl.col("first") | ~pl.col("queued")) & pl.col("sound")
    ranked = ranked.with_columns(earliest.alias("earliest"))
    tied = pl.col("earliest").sum().over("loop") > 1
    best = pl.col("earliest") & (~tied | pl.col("first"))
    ranked = ranked.with_columns(best.alias("best"))
    evident = (pl.col("best").sum().over("loop") == 1) & pl.col("best")
    cut = ranked.filter(evident | (pl.col("rows") == 1))
    stays = ranked.join(cut.select("loop"), on="loop", how="anti")
    return cut["place"], stays["place"]
