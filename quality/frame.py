"""The frame the rules work on: what they look at of each span, one row per raw row.

It is narrow. Attributes, events and the like wait beside it and are joined at the end by `row`.
"""

from __future__ import annotations

import polars as pl
import pyarrow as pa

from lake import TABLES, empty
from quality.slices import decode

_TEXTS = ("trace_id", "span_id", "parent_span_id", "service", "operation", "host")
_ALSO = ("kind", "status", "start", "start_unit", "duration", "start_ns", "duration_ns", "tid")
_READ = ("batch", "arrival", *_TEXTS, *_ALSO, "size", "ingested_at")
RAW = TABLES["raw_spans"].schema


def narrow(raw: pl.DataFrame) -> pl.DataFrame:
    """The working frame of raw rows, in their order; `row` is the place in the raw frame."""
    rows = pl.concat([empty(TABLES["raw_spans"]), raw], how="diagonal_relaxed").select(RAW.names)
    arrow = rows.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(RAW)
    found = working(decode.of(arrow))
    return found.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("row"))


def working(rows: pa.Table) -> pl.DataFrame:
    """The working frame of decoded rows, which have a column `row`, or get 0 there.

    start_ns and duration_ns are null where the raw number cannot be nanoseconds; `start` and
    `duration` stay as received. `size` is how much a row says, for choosing among copies.
    """
    frame = pl.DataFrame(
        pl.from_arrow(rows.select([n for n in (*_READ, "row") if n in rows.schema.names]))
    )
    if "row" not in frame.columns:
        frame = frame.with_columns(pl.lit(0, pl.Int64).alias("row"))
    return frame.with_columns(pl.col(pl.Categorical).cast(pl.String)).select(
        "row",
        pl.format("{}:{}", "batch", "arrival").alias("row_key"),
        _whole("trace_id", 32),
        _whole("span_id", 16),
        _whole("parent_span_id", 16),
        "service",
        "operation",
        "host",
        *_ALSO,
        "size",
        pl.col("ingested_at").cast(pl.Datetime("us", "UTC")),
        pl.lit([], pl.List(pl.String)).alias("faults"),
        pl.lit([], pl.List(pl.String)).alias("repaired"),
        pl.lit(0, pl.Int64).alias("clock_offset_ns"),
        pl.lit(0, pl.Int64).alias("clock_error_ns"),
    )


def _whole(column: str, size: int) -> pl.Expr:
    """A 64-bit trace id at full width: the same id, as OpenTelemetry and Jaeger write it. An empty
    text is no id."""
    half = pl.col(column).str.contains("^[0-9a-f]{16}$")
    return (
        pl.when(half)
        .then(pl.col(column).str.zfill(size))
        .when(pl.col(column) != "")
        .then(column)
        .alias(column)
    )
