"""An end before its start: the two are swapped when the span then lies in its parent and around
its children, and would not with its sign alone turned; else the row is marked."""

from __future__ import annotations

import polars as pl

from quality import marks
from quality.clock.bounds import owner

NAME = "duration_negative"


def apply(spans: pl.DataFrame) -> pl.DataFrame:
    """No negative duration without a mark."""
    negative = pl.col("duration_ns") < 0
    if not spans.select(negative.any()).item():
        return spans
    around = neighbours(spans, negative)
    start, length = pl.col("start_ns"), -pl.col("duration_ns")
    swapped = _fits(start - length, start)
    turned = _fits(start, start + length)
    known = pl.col("low").is_not_null() | pl.col("first").is_not_null()
    mend = negative & known & swapped & ~turned
    return (
        spans.join(around, on="row", how="left", maintain_order="left")
        .with_columns(mend.fill_null(value=False).alias("mend"))
        .with_columns(
            pl.when("mend").then(start - length).otherwise("start_ns").alias("start_ns"),
            pl.when("mend").then(length).otherwise("duration_ns").alias("duration_ns"),
            marks.repaired(NAME, pl.col("mend")),
            marks.fault(NAME, negative & ~pl.col("mend")),
        )
        .drop("mend", "low", "high", "first", "last")
    )


def neighbours(spans: pl.DataFrame, which: pl.Expr) -> pl.DataFrame:
    """For the rows asked for: the parent's interval (low, high), the children's (first, last), of
    neighbours on the same clock only: other hosts' clocks are not set right yet."""
    spans = spans.with_columns(owner().alias("owner"))
    asked = spans.filter(which)
    ends = pl.col("start_ns") + pl.col("duration_ns")
    fine = spans.filter(~which & (pl.col("duration_ns") >= 0))
    up, down = ["trace_id", "owner", "parent_span_id"], ["trace_id", "owner", "span_id"]
    above = fine.select(
        "trace_id", "owner", parent_span_id="span_id", low="start_ns", high=ends
    ).unique(up, keep="any")
    below = (
        fine.join(asked.select("trace_id", "owner", parent_span_id="span_id"), on=up, how="semi")
        .group_by("trace_id", "owner", span_id="parent_span_id")
        .agg(first=pl.col("start_ns").min(), last=ends.max())
    )
    return (
        asked.select("row", *down, "parent_span_id")
        .join(above, on=up, how="left")
        .join(below, on=down, how="left")
        .select("row", "low", "high", "first", "last")
    )


def _fits(start: pl.Expr, end: pl.Expr) -> pl.Expr:
    inside = (start >= pl.col("low")) & (end <= pl.col("high"))
    around = (start <= pl.col("first")) & (end >= pl.col("last"))
    return inside.fill_null(value=True) & around.fill_null(value=True)
