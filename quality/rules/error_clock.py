"""An event's time by the server's clock, where the sender's was off by more than sending takes."""

from __future__ import annotations

import polars as pl

from quality import marks

NAME = "error_clock"
LEAST = 5_000_000  # µs: sending takes a moment; less than this is no clock's fault


def apply(rows: pl.DataFrame) -> pl.DataFrame:
    """`ts` moved by received_at − sent_at, where these lie over five seconds apart."""
    off = (pl.col("received_at") - pl.col("sent_at")).dt.total_microseconds()
    wrong = (off.abs() > LEAST) & ~pl.col("repaired").list.contains(NAME)
    wrong = (wrong & pl.col("ts").is_not_null()).fill_null(value=False)
    by = pl.when(wrong).then(off).otherwise(0)
    return rows.with_columns(
        (pl.col("ts") + pl.duration(microseconds=by)).alias("ts"), marks.repaired(NAME, wrong)
    )
