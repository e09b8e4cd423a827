"""The lower half of a 128-bit trace id becomes the whole one, where exactly one trace has that half
and a parent link, or Datadog's `_dd.p.tid`, agrees."""

from __future__ import annotations

import polars as pl

from quality.rules import fragments
from quality.rules.id_corrupt import DIGITS

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
    told = halves.filter(pl.col("tid").is_not_null()).select(
        fragment="trace_id", home=pl.concat_str("tid", low)
    )
    linked = fragments.links(spans).filter(
        pl.col("fragment").str.starts_with(_HIGH_ZERO),
        ~pl.col("other").str.starts_with(_HIGH_ZERO),
        pl.col("fragment").str.slice(16) == pl.col("other").str.slice(16),
    )
    linked = linked.select("fragment", home="other").unique()
    if linked.height:
        linked = linked.join(_named(spans, linked), on="home", how="semi")
    return fragments.adopt(spans, pl.concat([told, linked]), NAME)


def _named(spans: pl.DataFrame, linked: pl.DataFrame) -> pl.DataFrame:
    """(home) of each half the one trace that has it; of several that differ by little the one that
    holds most, of which the others are damaged."""
    low = pl.col("fragment").str.slice(16).alias("low")
    halves = linked.select(low).unique()
    wholes = (
        spans.filter(~pl.col("trace_id").str.starts_with(_HIGH_ZERO))
        .select(fragment="trace_id")
        .unique()
        .join(halves, left_on=pl.col("fragment").str.slice(16), right_on="low", how="semi")
    )
    counted = fragments.sizes(spans, wholes["fragment"]).with_columns(low)
    most = counted.filter(pl.col("count") == pl.col("count").max().over("low"))
    others = counted.join(most.select("low", home="fragment"), on="low")
    odd = others.filter(
        (fragments.distance("fragment", "home") > DIGITS) | (pl.len().over("low", "fragment") > 1)
    )
    named = most.join(odd.select("low"), on="low", how="anti")
    return named.select(home="fragment")
