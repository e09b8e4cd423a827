"""A time that cannot be (epoch 0, far future): the span is placed inside its parent when the bounds
of parent and children leave less than a millisecond of doubt, else it is left out, for quarantine.
"""

from __future__ import annotations

import polars as pl

from quality import marks
from quality.rules.duration_negative import BOUNDS, neighbours
from quality.rules.time_unit import plausible

NAME = "time_implausible"
DOUBT = 1_000_000  # ns


def apply(spans: pl.DataFrame) -> pl.DataFrame:
    """Rows with a time that can be; of those placed, `clock_error_ns` says how well."""
    wrong = ~plausible(pl.col("start_ns")).fill_null(value=False)
    if not spans.select(wrong.any()).item():
        return spans
    around = neighbours(spans, wrong)
    length = pl.col("duration_ns")
    low = pl.max_horizontal("low", pl.col("last") - length)
    high = pl.min_horizontal(pl.col("high") - length, "first")
    inside = pl.col("low").is_not_null() & (length >= 0)
    placed = pl.when(inside & (high - low).is_between(0, DOUBT))
    return (
        spans.join(around, on="row", how="left", maintain_order="left")
        .with_columns(
            placed.then((low + high) // 2).alias("place"),
            placed.then((high - low + 1) // 2).alias("doubt"),
        )
        .with_columns(wrong.alias("wrong"))
        .filter(~pl.col("wrong") | pl.col("place").is_not_null())
        .with_columns(
            pl.when("wrong").then("place").otherwise("start_ns").alias("start_ns"),
            pl.when("wrong").then("doubt").otherwise("clock_error_ns").alias("clock_error_ns"),
            marks.repaired(NAME, pl.col("wrong")),
        )
        .drop("place", "doubt", "wrong", *BOUNDS)
    )
