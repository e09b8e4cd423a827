"""The lower half of a 128-bit trace id becomes the whole one, where exactly one trace has that
half and a parent link, or Datadog's `_dd.p.tid`, agrees."""

from __future__ import annotations

import polars as pl

from quality.rules import fragments

NAME = "id_truncated"
_HIGH_ZERO = "0" * 16


def apply(spans: pl.DataFrame) -> pl.DataFrame:
    """Truncated trace ids made whole; those without evidence stay."""
    return fragments.settled(spans, _once)


def _once(spans: pl.DataFrame) -> pl.DataFrame:
    halves = spans.filter(pl.col("trace_id").str.starts_with(_HIGH_ZERO))
    if not halves.height:
        return spans
    low = pl.col("trace_id").str.slice(16)
    wholes = spans.filter(~pl.col("trace_id").str.starts_with(_HIGH_ZERO))
    known = (
        wholes.filter(low.is_in(halves.select(low)["trace_id"].unique().implode()))
        .group_by(low.alias("low"))
        .agg(
            pl.col("trace_id").n_unique().alias("traces"), pl.col("trace_id").first().alias("home")
        )
        .filter(pl.col("traces") == 1)
    )
    told = halves.filter(pl.col("tid").is_not_null()).select(
        fragment="trace_id", home=pl.concat_str("tid", low)
    )
    linked = (
        fragments.links(spans)
        .filter(pl.col("fragment").str.starts_with(_HIGH_ZERO))
        .with_columns(low=pl.col("fragment").str.slice(16))
        .join(known, on="low")
        .filter(pl.col("home") == pl.col("other"))
        .select("fragment", "home")
    )
    return fragments.adopt(spans, pl.concat([told, linked]), NAME)
