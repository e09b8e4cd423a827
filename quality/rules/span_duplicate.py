"""A span delivered twice, or a partial copy beside a complete one, becomes one row: the one that
says most."""

from __future__ import annotations

import polars as pl

from quality.rules.time_unit import plausible

NAME = "span_duplicate"
_SPAN = ["trace_id", "span_id"]
_SAME = [*_SPAN, "service", "start_ns"]


def apply(spans: pl.DataFrame) -> pl.DataFrame:
    """One row per span of a believable time: the copy with the longest text, then duration."""
    twice = pl.struct(_SPAN).is_duplicated() & pl.all_horizontal(pl.col(_SPAN).is_not_null())
    copies = spans.filter(twice & plausible(pl.col("start_ns")).fill_null(value=False))
    if not copies.height:
        return spans
    told = copies.with_columns(_told("operation"), _told("kind"))
    best = (
        pl.struct("size", pl.col("duration_ns").fill_null(-1), "row_key")
        .rank("ordinal", descending=True)
        .over(*_SAME, "operation", "kind")
    )
    gone = told.filter(best > 1)["row"]
    return spans.filter(~pl.col("row").is_in(gone.implode())) if len(gone) else spans


def _told(column: str) -> pl.Expr:
    """What a partial copy does not say, from the copies that do, where these agree."""
    known = pl.col(column).drop_nulls()
    one = pl.when(known.n_unique().over(_SAME) == 1).then(known.first().over(_SAME))
    return pl.coalesce(column, one).alias(column)
