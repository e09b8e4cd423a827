"""A time that cannot be (epoch 0, far future): the span is placed inside its parent when the
bounds leave less than a millisecond of doubt, else it goes to quarantine."""

from __future__ import annotations

import polars as pl

from quality import marks
from quality.rules.duration_negative import neighbours
from quality.rules.time_unit import plausible

NAME = "time_implausible"
DOUBT = 1_000_000  # ns


def apply(spans: pl.DataFrame) -> pl.DataFrame:
    """Times placed where they must have been; what cannot be placed keeps the fault."""
    wrong = ~plausible(pl.col("start_ns")).fill_null(value=False)
    if not spans.select(wrong.any()).item():
        return spans
    around = neighbours(spans, wrong)
    length = pl.col("duration_ns")
    low = pl.col("low")
    high = pl.min_horizontal(pl.col("high") - length, pl.col("first"))
    tight = pl.col("low").is_not_null() & (length >= 0) & (high - low).is_between(0, DOUBT)
    return (
        spans.join(around, on="row", how="left", maintain_order="left")
        .with_columns((wrong & tight).fill_null(value=False).alias("mend"))
        .with_columns(
            pl.when("mend").then((low + high) // 2).otherwise("start_ns").alias("start_ns"),
            marks.repaired(NAME, pl.col("mend")),
            marks.fault(NAME, wrong & ~pl.col("mend")),
        )
        .drop("mend", "low", "high", "first", "last")
    )
