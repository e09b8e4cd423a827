"""A span delivered twice, or a partial copy beside a complete one, becomes one row: the one that
says most."""

from __future__ import annotations

import polars as pl

from quality.rules.time_unit import plausible

NAME = "span_duplicate"
_SAME = ["trace_id", "span_id", "service", "operation", "kind", "start"]


def apply(spans: pl.DataFrame) -> pl.DataFrame:
    """One row per span of a believable time: the copy with the longest text, then duration."""
    known = (
        pl.col("trace_id").is_not_null()
        & pl.col("span_id").is_not_null()
        & plausible(pl.col("start_ns")).fill_null(value=False)
    )
    best = (
        pl.struct("size", pl.col("duration_ns").fill_null(-1), "row_key")
        .rank("ordinal", descending=True)
        .over(_SAME)
    )
    kept: pl.DataFrame = spans.filter(~known | (best == 1))
    return kept
