"""One trace id used for unrelated requests: each gets an id of its own.

Requests are unrelated when no link joins them and they lie far apart in time, each with a root.
The earliest keeps the id; another's is made of the id's upper half and its root's span id, so that
it is the same in every run. Rows that are far from every root are marked and stay.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from quality import marks
from quality.rules.parent_cycle import Index, parents
from quality.rules.time_unit import plausible

NAME = "trace_merged"
FAR = 3_600_000_000_000  # ns


def apply(spans: pl.DataFrame) -> pl.DataFrame:
    """No trace holds roots an hour apart with nothing between them."""
    suspects = _suspects(spans)
    if not suspects.height:
        return spans
    fine = plausible(pl.col("start_ns")).fill_null(value=False)
    rows = spans.join(suspects, on="trace_id", how="semi", maintain_order="left")
    parts = _parts(rows.with_columns(fine.alias("fine")))
    parts = parts.filter(pl.col("part") > 0)
    joined = spans.join(parts, on="row", how="left", maintain_order="left")
    fresh = pl.col("root").is_not_null()
    return joined.with_columns(
        pl.when(fresh)
        .then(pl.concat_str(pl.col("trace_id").str.slice(0, 16), "root"))
        .otherwise("trace_id")
        .alias("trace_id"),
        marks.repaired(NAME, fresh),
        marks.fault(NAME, pl.col("part").is_not_null() & ~fresh),
    ).drop("part", "root")


def _suspects(spans: pl.DataFrame) -> pl.DataFrame:
    """Traces whose roots lie far apart."""
    fine = plausible(pl.col("start_ns")) & pl.col("trace_id").is_not_null()
    roots = spans.filter(fine & pl.col("parent_span_id").is_null())
    reach = roots.group_by("trace_id").agg(
        (pl.col("start_ns").max() - pl.col("start_ns").min()).alias("reach")
    )
    return reach.filter(pl.col("reach") > FAR).select("trace_id")


def _parts(rows: pl.DataFrame) -> pl.DataFrame:
    """(row, part, root): which part of its trace every row is of, 0 the earliest that has a root,
    and the span id of the part's first root; null where it has none."""
    rows = rows.with_columns(pl.Series("top", _tops(parents(rows))))
    ends = pl.col("start_ns") + pl.col("duration_ns").clip(lower_bound=0)
    is_root = pl.col("parent_span_id").is_null() & pl.col("span_id").is_not_null()
    pieces = (
        rows.filter("fine")
        .group_by("trace_id", "top")
        .agg(
            pl.col("start_ns").min().alias("from"),
            ends.max().alias("to"),
            pl.col("span_id").filter(is_root).first().alias("root"),
            pl.col("start_ns").filter(is_root).min().alias("root_start"),
        )
        .sort("trace_id", "from", "top")
    )
    before = pl.col("to").cum_max().shift(1).over("trace_id")
    pieces = pieces.with_columns(
        ((pl.col("from") - before) > FAR)
        .fill_null(value=False)
        .cum_sum()
        .over("trace_id")
        .alias("part")
    )
    named = (
        pieces.drop_nulls("root")
        .sort("root_start", "root")
        .group_by("trace_id", "part", maintain_order=True)
        .agg(pl.col("root").first())
    )
    first = named.group_by("trace_id").agg(pl.col("part").min().alias("first"))
    placed = (
        pieces.select("trace_id", "top", "part")
        .join(named, on=["trace_id", "part"], how="left")
        .join(first, on="trace_id")
        .with_columns(
            pl.when(pl.col("part") == pl.col("first"))
            .then(0)
            .otherwise(pl.col("part") + 1)
            .alias("part")
        )
    )
    return (
        rows.select("row", "trace_id", "top")
        .join(placed, on=["trace_id", "top"])
        .select("row", "part", "root")
    )


def _tops(parent: Index) -> Index:
    """The position of the uppermost row over each; a loop's rows stay with themselves."""
    size = len(parent)
    top = np.where(parent < 0, np.arange(size), parent)
    for _ in range(max(size.bit_length(), 1)):
        after = top[top]
        if (after == top).all():
            break
        top = after
    return top
