"""Raw spans as the frame the rules work on, and back as rows of `spans`.

The working frame is narrow: what rules look at. Attributes, events and the like wait beside it
and are joined by `row` (the position in the raw frame) at the end.
"""

from __future__ import annotations

import polars as pl

from lake import TABLES
from quality import tags

WIDE = ("attributes", "resource", "events", "links")
SAFE_US = 9_000_000_000_000_000  # beyond this a time in µs does not fit int64 nanoseconds
_KIND = r'"key":\s*"span\.kind"[^}]*?"value":\s*"(\w+)"'
_ERROR = r'"key":\s*"error"[^}]*?"value":\s*"?(true|false)'
_CODE = r'"key":\s*"otel\.status_code"[^}]*?"value":\s*"(\w+)"'
_TID = r'"key":\s*"_dd\.p\.tid"[^}]*?"value":\s*"([0-9a-f]{16})"'
KINDS = ["server", "client", "producer", "consumer", "internal"]


def narrow(raw: pl.DataFrame) -> pl.DataFrame:
    """The columns rules look at, one row per raw row, in its order.

    start_ns and duration_ns are null where the raw number cannot be nanoseconds; `start` and
    `duration` stay as received. `size` is how much a row says, for choosing among copies.
    """
    text = pl.col("attributes").fill_null("")
    kind = pl.coalesce("kind", text.str.extract(_KIND)).str.to_lowercase()
    return raw.with_row_index("row").select(
        pl.col("row").cast(pl.Int64),
        pl.format("{}:{}", "batch", "arrival").alias("row_key"),
        _whole("trace_id", 32),
        _whole("span_id", 16),
        _whole("parent_span_id", 16),
        *(pl.col(name) for name in ("service", "operation", "host")),
        pl.when(kind.is_in(KINDS)).then(kind).alias("kind"),
        _status(text).alias("status"),
        "start",
        "start_unit",
        "duration",
        _nanos("start").alias("start_ns"),
        _nanos("duration").alias("duration_ns"),
        text.str.extract(_TID).alias("tid"),
        sum(
            (pl.col(name).str.len_bytes().fill_null(0).cast(pl.Int64) for name in WIDE),
            start=pl.lit(0, pl.Int64),
        ).alias("size"),
        "ingested_at",
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


def _status(text: pl.Expr) -> pl.Expr:
    """The format's own status, else what the tags say."""
    code = text.str.extract(_CODE).str.to_lowercase()
    error = text.str.extract(_ERROR)
    return (
        pl.when(pl.col("status").is_not_null() & (pl.col("status") != "unset"))
        .then(pl.col("status"))
        .when((error == "true") | (code == "error"))
        .then(pl.lit("error"))
        .when(code == "ok")
        .then(pl.lit("ok"))
        .otherwise(pl.lit("unset"))
    )


def _nanos(column: str) -> pl.Expr:
    value = pl.col(column)
    fits = pl.when(value.abs() <= SAFE_US).then(value * 1000)
    return pl.when(pl.col("start_unit") == "ns").then(value).otherwise(fits)


def widen(spans: pl.DataFrame, raw: pl.DataFrame) -> pl.DataFrame:
    """Rows of the table `spans`: the repaired columns beside the rest of each raw row."""
    rest = raw.with_row_index("row").select(
        pl.col("row").cast(pl.Int64), "cluster", "namespace", "environment", *WIDE
    )
    rest = rest.join(spans.select("row"), on="row", how="semi", maintain_order="left")
    for column in WIDE:
        rest = tags.read(rest, column)
    start = (pl.col("start_ns") // 1000).cast(pl.Datetime("us", "UTC"))
    whole = spans.drop("start").join(rest, on="row", how="left", maintain_order="left")
    return whole.with_columns(
        start.alias("start"), start.dt.date().alias("date"), pl.lit(1.0).alias("weight")
    ).select(TABLES["spans"].schema.names)
