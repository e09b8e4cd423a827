"""What rules changed, as rows of `repairs`: found by comparing frames before and after a rule."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

SCHEMA = pl.Schema(
    {
        "row": pl.Int64,
        "row_key": pl.String,
        "trace_id": pl.String,
        "span_id": pl.String,
        "rule": pl.String,
        "column_name": pl.String,
        "before": pl.String,
        "after": pl.String,
        "row_count": pl.Int64,
        "confidence": pl.Float64,
    }
)
_KEYS = ("row", "row_key", "trace_id", "span_id")


def values(
    rule: str,
    before: pl.DataFrame,
    after: pl.DataFrame,
    columns: Sequence[str],
    confidence: float = 1.0,
) -> pl.DataFrame:
    """One audit row for every value that differs between two frames of the same rows, in the
    same order."""
    parts = [pl.DataFrame(schema=SCHEMA)]
    for column in columns:
        differs = before[column].ne_missing(after[column])
        if differs.any():
            was = before.filter(differs)[column]
            parts.append(_rows(rule, after.filter(differs), column, was, confidence))
    return pl.concat(parts)


def merged(rule: str, gone: pl.DataFrame, into: pl.Series | None = None) -> pl.DataFrame:
    """Rows that became part of another: `before` is the row itself, `after` the row_key of the
    other, where it is known."""
    rows = _rows(rule, gone, "row_key", gone["row_key"], 1.0)
    other = pl.lit(None, pl.String) if into is None else into
    return rows.with_columns(other.alias("after"), column_name=pl.lit("row"))


def _rows(
    rule: str, rows: pl.DataFrame, column: str, was: pl.Series, confidence: float
) -> pl.DataFrame:
    have = [key if key in rows.columns else pl.lit(None, SCHEMA[key]).alias(key) for key in _KEYS]
    return rows.select(
        *have,
        pl.lit(rule).alias("rule"),
        pl.lit(column).alias("column_name"),
        was.cast(pl.String).alias("before"),
        pl.col(column).cast(pl.String).alias("after"),
        pl.lit(1, pl.Int64).alias("row_count"),
        pl.lit(confidence).alias("confidence"),
    )
