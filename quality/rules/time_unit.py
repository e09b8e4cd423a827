"""Times in another unit than declared are scaled, when exactly one unit makes them plausible.

Plausible is a start between 2000-01-01 and a day after ingestion; seconds, ms, µs and ns of that
stretch do not overlap, so at most one unit fits.
"""

from __future__ import annotations

import polars as pl

from quality import marks

NAME = "time_unit"
UNITS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
FIRST = 946_684_800_000_000_000  # 2000-01-01 in ns
DAY = 86_400_000_000_000


def plausible(nanos: pl.Expr) -> pl.Expr:
    """Whether a time in ns can be when a span began."""
    latest = pl.col("ingested_at").dt.timestamp("us") * 1000 + DAY
    return nanos.is_between(pl.lit(FIRST), latest)


def apply(spans: pl.DataFrame) -> pl.DataFrame:
    """start_ns and duration_ns in nanoseconds, scaled by the unit that fits."""
    wrong = ~plausible(pl.col("start_ns")).fill_null(value=False) & pl.col("start").is_not_null()
    if not spans.select(wrong.any()).item():
        return spans
    factor = pl.coalesce(
        *(
            pl.when(plausible(_scaled("start", factor))).then(pl.lit(factor))
            for unit, factor in UNITS.items()
        )
    )
    declared = pl.when(pl.col("start_unit") == "ns").then(1).otherwise(1000)
    mend = (
        wrong
        & factor.is_not_null()
        & (factor != declared)
        & ~pl.col("repaired").list.contains(NAME)
    )
    return (
        spans.with_columns(mend.alias("mend"), factor.alias("factor"))
        .with_columns(
            pl.when("mend")
            .then(pl.col("start") * pl.col("factor"))
            .otherwise("start_ns")
            .alias("start_ns"),
            pl.when("mend")
            .then(pl.col("duration") * pl.col("factor"))
            .otherwise("duration_ns")
            .alias("duration_ns"),
            marks.repaired(NAME, pl.col("mend")),
        )
        .drop("mend", "factor")
    )


def _scaled(column: str, factor: int) -> pl.Expr:
    """The number times the factor; null where that does not fit."""
    value = pl.col(column)
    return pl.when(value.abs() <= ((1 << 63) - 1) // factor).then(value * factor)
