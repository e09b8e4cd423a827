"""A row without a span id gets the one its children name, when a trace has one such row and one
such name. Part of the rule `id_missing`."""

from __future__ import annotations

import polars as pl

from quality import marks

NAME = "id_missing"


def apply(spans: pl.DataFrame) -> pl.DataFrame:
    """Span ids filled where nothing else fits."""
    nameless = spans.filter(pl.col("span_id").is_null() & pl.col("trace_id").is_not_null())
    if not nameless.height:
        return spans
    alone = nameless.filter(pl.len().over("trace_id") == 1)
    inside = spans.join(alone.select("trace_id"), on="trace_id", how="semi")
    wanted = (
        inside.filter(pl.col("parent_span_id").is_not_null())
        .join(
            inside.select("trace_id", parent_span_id="span_id").drop_nulls().unique(),
            on=["trace_id", "parent_span_id"],
            how="anti",
        )
        .group_by("trace_id", "parent_span_id")
        .agg(
            pl.col("start_ns").min().alias("first"),
            (pl.col("start_ns") + pl.col("duration_ns")).max().alias("last"),
        )
        .filter(pl.len().over("trace_id") == 1)
    )
    ends = pl.col("start_ns") + pl.col("duration_ns")
    around = (pl.col("start_ns") <= pl.col("first")) & (ends >= pl.col("last"))
    names = (
        alone.join(wanted.rename({"parent_span_id": "name"}), on="trace_id")
        .filter(around & (pl.col("parent_span_id").fill_null("") != pl.col("name")))
        .select("row", "name")
    )
    joined = spans.join(names, on="row", how="left", maintain_order="left")
    return joined.with_columns(
        pl.coalesce("span_id", "name").alias("span_id"),
        marks.repaired(NAME, pl.col("name").is_not_null()),
    ).drop("name")
