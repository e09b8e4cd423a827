"""A counter that fell was started anew: the first sample after it is marked."""

from __future__ import annotations

import polars as pl

from quality import marks
from quality.rules.stale_gap import NEAR

NAME = "counter_reset"
COUNTERS = ["counter", "histogram", "summary"]


def apply(samples: pl.DataFrame) -> pl.DataFrame:
    """Marks on rows in the order of `sample_order`; `type` is the series' kind where known."""
    counter = pl.col("type").is_in(COUNTERS) | pl.col("metric").str.ends_with("_total")
    same = pl.col("series") == pl.col("series").shift(1)
    near = pl.col("ts") - pl.col("ts").shift(1) <= NEAR
    value = pl.col("value").fill_nan(None)
    fell = same & near & (value < value.shift(1))
    return samples.with_columns(marks.fault(NAME, counter.fill_null(value=False) & fell))
