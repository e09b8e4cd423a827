"""A series that was silent: Prometheus' stale marker, and the first sample after a gap, marked."""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from quality import marks

NAME = "stale_gap"
MARKER = 0x7FF0000000000002  # the bits of Prometheus' stale marker, one of many NaN
SILENCE = timedelta(minutes=5)  # after which Prometheus itself calls a series stale
NEAR = timedelta(days=1)  # rows further back are not looked at: they may not be in sight


def apply(samples: pl.DataFrame) -> pl.DataFrame:
    """Marks on rows in the order of `sample_order`."""
    stale = pl.Series("stale", samples["value"].to_numpy().view("int64") == MARKER)
    same = pl.col("series") == pl.col("series").shift(1)
    silent = pl.col("ts") - pl.col("ts").shift(1)
    gap = same & (silent > SILENCE) & (silent <= NEAR)
    marked = samples.with_columns(stale).with_columns(marks.fault(NAME, pl.col("stale") | gap))
    return marked.drop("stale")
