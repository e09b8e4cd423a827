"""Times in another unit than declared are scaled, when exactly one unit makes them plausible.

Plausible is a start between 2000-01-01 and a day after ingestion; seconds, ms, µs and ns of that
stretch do not overlap, so at most one unit fits. A number that would be seconds may as well be
microseconds cut to 32 bits: it is scaled only where the rest of its trace lies at that time.
"""

from __future__ import annotations

import polars as pl

from quality import marks

NAME = "time_unit"
UNITS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
FIRST = 946_684_800_000_000_000  # 2000-01-01 in ns
DAY = 86_400_000_000_000
BY_CHANCE = 0.2  # the share of starts in whole milliseconds that is none
FEW = 5  # rows of an operation that do not tell how finely it tells times
NEAR = 300_000_000_000  # ns: how far a row told in seconds may lie from the rest of its trace


def plausible(nanos: pl.Expr) -> pl.Expr:
    """Whether a time in ns can be when a span began."""
    latest = pl.col("ingested_at").dt.timestamp("us") * 1000 + DAY
    return nanos.is_between(pl.lit(FIRST), latest)


def resolution(nanos: pl.Expr) -> pl.Expr:
    """How finely a time is told, ns: a time in whole milliseconds may lie anywhere in its own."""
    return pl.when(nanos % 1_000_000 == 0).then(1_000_000).otherwise(1_000)


def told() -> pl.Expr:
    """The start as the row's own clock told it, ns."""
    return pl.col("start_ns") + pl.col("clock_offset_ns")


def grains(spans: pl.DataFrame, asked: pl.DataFrame) -> pl.DataFrame:
    """(service, operation, rows, grain): how finely the operations of asked rows' services tell
    their starts, ns (`coarseness`)."""
    mine = spans.join(asked.select("service"), on="service", how="semi", nulls_equal=True)
    sound = plausible(pl.col("start_ns")) & (pl.col("duration_ns") >= 0)
    counted = mine.group_by("service", "operation").agg(
        rows=sound.sum(), whole=(sound & (told() % 1_000_000 == 0)).sum()
    )
    return coarseness(counted)


def coarseness(counted: pl.DataFrame) -> pl.DataFrame:
    """(service, operation, rows, grain) of operations counted in parts: their sound rows, and
    those of a `whole` millisecond. A fine one hits that by chance, once in a thousand; one with
    FEW rows is taken to be as coarse as the coarsest of its service, or as all of them are."""
    whole = counted.group_by("service", "operation").agg(pl.col("rows", "whole").sum())
    share, known = pl.col("whole") > BY_CHANCE * pl.col("rows"), pl.col("rows") >= FEW
    every = pl.col("whole").sum() > BY_CHANCE * pl.col("rows").sum()
    others = pl.when(known.any()).then((share & known).any()).otherwise(every).over("service")
    grain = pl.when(pl.when(known).then(share).otherwise(others)).then(1_000_000).otherwise(1_000)
    return whole.select("service", "operation", "rows", grain=grain)


def apply(spans: pl.DataFrame) -> pl.DataFrame:
    """start_ns and duration_ns in nanoseconds, scaled by the unit that fits; what a unit coarser
    than µs leaves open stands in clock_error_ns."""
    wrong = ~plausible(pl.col("start_ns")).fill_null(value=False) & pl.col("start").is_not_null()
    fresh = ~pl.col("repaired").list.contains(NAME)
    odd = spans.filter(wrong & fresh)
    if not odd.height:
        return spans
    scales = _witnessed(spans, _scales(odd), wrong)
    if not scales.height:
        return spans
    scaled = pl.col("factor").is_not_null()
    return (
        spans.join(scales, on="row", how="left", maintain_order="left")
        .with_columns(
            *(
                pl.when(scaled).then(_scaled(name)).otherwise(f"{name}_ns").alias(f"{name}_ns")
                for name in ("start", "duration")
            ),
            pl.when(scaled & (pl.col("factor") > 1_000))
            .then(pl.max_horizontal("factor", "clock_error_ns"))
            .otherwise("clock_error_ns")
            .alias("clock_error_ns"),
            marks.repaired(NAME, scaled),
        )
        .drop("factor")
    )


def _scales(odd: pl.DataFrame) -> pl.DataFrame:
    """(row, trace_id, service, factor, at) of rows that another unit than declared makes
    plausible."""
    factor = pl.coalesce(
        *(
            pl.when(plausible(_scaled("start", unit))).then(pl.lit(unit, pl.Int64))
            for unit in UNITS.values()
        )
    )
    declared = pl.when(pl.col("start_unit") == "ns").then(1).otherwise(1000)
    found = odd.with_columns(factor=factor).filter(pl.col("factor") != declared)
    return found.select("row", "trace_id", "service", "factor", at=_scaled("start"))


def _witnessed(spans: pl.DataFrame, scales: pl.DataFrame, wrong: pl.Expr) -> pl.DataFrame:
    """(row, factor) without those told in seconds that no other row of the trace bears out."""
    doubtful = scales.filter(pl.col("factor") == UNITS["s"])
    sure = scales.filter(pl.col("factor") != UNITS["s"]).select("row", "factor")
    if not doubtful.height:
        return sure
    others = spans.filter(~wrong).join(doubtful.select("trace_id"), on="trace_id", how="semi")
    reach = others.group_by("trace_id").agg(
        pl.col("start_ns").min().alias("low"), pl.col("start_ns").max().alias("high")
    )
    near = pl.col("at").is_between(pl.col("low") - NEAR, pl.col("high") + NEAR)
    borne = doubtful.join(reach, on="trace_id").filter(near).select("row", "factor")
    return pl.concat([sure, borne])


def _scaled(column: str, factor: int | None = None) -> pl.Expr:
    """The number times the factor; null where that does not fit."""
    value = pl.col(column)
    by = pl.col("factor") if factor is None else pl.lit(factor, pl.Int64)
    return pl.when(value.abs() <= ((1 << 63) - 1) // by).then(value * by)
