"""A trace id with a few damaged digits becomes the id of the one trace that holds the row's
parent or children; a span id or parent link with damaged digits is mended in its trace."""

from __future__ import annotations

import polars as pl

from quality import marks
from quality.rules import fragments

NAME = "id_corrupt"
DIGITS = 3  # of 32: more differences than this are another id, not a damaged one
LINK_DIGITS = 2  # of 16


def apply(spans: pl.DataFrame) -> pl.DataFrame:
    """Damaged trace ids mended where the links and the likeness name one trace."""
    return fragments.settled(spans, _once)


def _once(spans: pl.DataFrame) -> pl.DataFrame:
    like = (
        fragments.links(spans)
        .filter(
            ~pl.col("fragment").str.starts_with("row "), ~pl.col("other").str.starts_with("row ")
        )
        .with_columns(fragments.distance("fragment", "other").alias("apart"))
        .filter(pl.col("apart") <= DIGITS)
    )
    if not like.height:
        return spans
    count = fragments.sizes(spans, like["fragment"])
    near = (
        like.join(count.select("fragment", "count"), on="fragment")
        .join(count.select(other="fragment", whole="count"), on="other")
        .filter(pl.col("count") < pl.col("whole"))
        .select("fragment", home="other")
    )
    return fragments.adopt(spans, near, NAME)


def links(spans: pl.DataFrame) -> pl.DataFrame:
    """Mend a span id that several children name alike, and more than name it otherwise, or one
    child's link to a span that others name rightly. With one child and no other witness it is left
    alone."""
    named = spans.filter(pl.col("trace_id").is_not_null(), pl.col("span_id").is_not_null())
    calls = (
        named.filter(pl.col("parent_span_id").is_not_null())
        .group_by("trace_id", "parent_span_id")
        .agg(pl.len().alias("children"))
    )
    known = named.select("trace_id", "span_id").unique()
    dangling = calls.join(
        known, left_on=["trace_id", "parent_span_id"], right_on=["trace_id", "span_id"], how="anti"
    )
    if not dangling.height:
        return spans
    witnessed = known.join(
        calls, left_on=["trace_id", "span_id"], right_on=["trace_id", "parent_span_id"], how="left"
    ).rename({"children": "calls"})
    like = dangling.join(witnessed, on="trace_id").filter(
        fragments.distance("parent_span_id", "span_id", 16) <= LINK_DIGITS
    )
    like = like.filter(pl.len().over("trace_id", "parent_span_id") == 1)
    others = pl.col("children").sum().over("trace_id", "span_id") - pl.col("children")
    most = (pl.col("children") >= 2) & (pl.col("children") > others)
    span_wrong = like.filter(most & pl.col("calls").is_null())
    link_wrong = like.filter(pl.col("calls").is_not_null() & (pl.col("children") == 1))
    spans = _rename(
        spans, "span_id", span_wrong.select("trace_id", old="span_id", new="parent_span_id")
    )
    spans = _rename(
        spans, "parent_span_id", link_wrong.select("trace_id", old="parent_span_id", new="span_id")
    )
    return links(spans) if span_wrong.height else spans  # a child may have named it wrongly too


def _rename(spans: pl.DataFrame, column: str, names: pl.DataFrame) -> pl.DataFrame:
    joined = spans.join(
        names,
        left_on=["trace_id", column],
        right_on=["trace_id", "old"],
        how="left",
        maintain_order="left",
    )
    return joined.with_columns(
        pl.coalesce("new", column).alias(column),
        marks.repaired(NAME, pl.col("new").is_not_null()),
    ).drop("new")
