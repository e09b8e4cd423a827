"""Two samples of one series and instant become one: the one that was delivered last. The row
says so where their values differ."""

from __future__ import annotations

import polars as pl

from quality import marks

NAME = "sample_duplicate"
KEY = ["series", "ts"]


def apply(samples: pl.DataFrame) -> pl.DataFrame:
    """One row per series and instant, of rows in the order of `sample_order`."""
    last = pl.struct(KEY).ne_missing(pl.struct(KEY).shift(-1))
    stays = samples.select(last).to_series()
    if stays.all():
        return samples
    kept = samples.filter(stays)
    pairs = samples.filter(~stays).select(*KEY, other="value").join(kept, on=KEY)
    differ = pl.col("value").ne_missing(pl.col("other"))
    clashes = pairs.filter(differ).select(*KEY, clash=pl.lit(value=True)).unique()
    joined = kept.join(clashes, on=KEY, how="left", maintain_order="left")
    return joined.with_columns(marks.fault(NAME, pl.col("clash"))).drop("clash")
