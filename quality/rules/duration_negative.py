"""An end before its start: the two are swapped when the span then lies in its parent and around
its children, and would not with its sign alone turned; else the row is marked."""

from __future__ import annotations

import polars as pl

from quality import marks
from quality.rules import around
from quality.rules.around import BOUNDS

NAME = "duration_negative"
LONGEST = 86_400_000_000_000  # ns: beyond a day the number itself is not believed


def apply(spans: pl.DataFrame) -> pl.DataFrame:
    """No negative duration without a mark. A row that is mended may tell of the next."""
    negative = pl.col("duration_ns") < 0
    left = spans.select(negative.sum()).item()
    if not left:
        return spans
    while True:
        spans, before = _once(spans), left
        left = spans.select(negative.sum()).item()
        if left in {0, before}:
            return spans.with_columns(marks.fault(NAME, negative))


def _once(spans: pl.DataFrame) -> pl.DataFrame:
    negative = pl.col("duration_ns") < 0
    bounds = around.neighbours(spans, spans.filter(negative)).drop("shared")
    start, length = pl.col("start_ns"), -pl.col("duration_ns")
    known = pl.any_horizontal(pl.col(name).is_not_null() for name in BOUNDS)
    evident = known & _fits(start - length, start) & ~_fits(start, start + length)
    mend = negative & evident & (length <= LONGEST)
    return (
        spans.join(bounds, on="row", how="left", maintain_order="left")
        .with_columns(mend.fill_null(value=False).alias("mend"))
        .with_columns(
            pl.when("mend").then(start - length).otherwise("start_ns").alias("start_ns"),
            pl.when("mend").then(length).otherwise("duration_ns").alias("duration_ns"),
            marks.repaired(NAME, pl.col("mend")),
        )
        .drop("mend", *BOUNDS)
    )


def _fits(start: pl.Expr, end: pl.Expr) -> pl.Expr:
    """Whether an interval lies in the parent's and around the children's, as far as known."""
    bounds = (
        start >= pl.col("low"),
        end <= pl.col("high"),
        start <= pl.col("first"),
        end >= pl.col("last"),
    )
    return pl.all_horizontal(bound.fill_null(value=True) for bound in bounds)
