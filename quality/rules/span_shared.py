"""Client and server that share one span id (Zipkin): the server's row gets a derived id, with
the client's row as its parent, and the server's children follow it."""

from __future__ import annotations

import hashlib

import polars as pl

from quality import marks

NAME = "span_shared"


def apply(spans: pl.DataFrame) -> pl.DataFrame:
    """No two rows of a trace share a span id for being the two ends of one call."""
    ends = spans.filter(pl.col("kind").is_in(["client", "server"]), pl.col("span_id").is_not_null())
    both = (
        ends.group_by("trace_id", "span_id")
        .agg(pl.col("kind").n_unique().alias("kinds"), pl.len().alias("rows"))
        .filter(pl.col("kinds") == 2, pl.col("rows") == 2)
    )
    if not both.height:
        return spans
    servers = (
        ends.filter(pl.col("kind") == "server")
        .join(both, on=["trace_id", "span_id"], how="semi")
        .select("trace_id", "span_id", "service")
    )
    derived = [
        hashlib.blake2b(f"{trace}{span}server".encode(), digest_size=8).hexdigest()
        for trace, span, _ in servers.rows()
    ]
    names = servers.with_columns(pl.Series("derived", derived, pl.String))
    joined = spans.join(
        names,
        on=["trace_id", "span_id", "service"],
        how="left",
        maintain_order="left",
        nulls_equal=True,
    )
    is_server = pl.col("derived").is_not_null() & (pl.col("kind") == "server")
    joined = joined.with_columns(
        pl.when(is_server).then("span_id").otherwise("parent_span_id").alias("parent_span_id"),
        pl.when(is_server).then("derived").otherwise("span_id").alias("span_id"),
        marks.repaired(NAME, is_server),
    ).drop("derived")
    return _follow(joined, names)


def _follow(spans: pl.DataFrame, names: pl.DataFrame) -> pl.DataFrame:
    """The server's own children hang on its derived id."""
    parents = names.rename({"span_id": "parent_span_id", "derived": "new"})
    joined = spans.join(
        parents,
        on=["trace_id", "parent_span_id", "service"],
        how="left",
        maintain_order="left",
        nulls_equal=True,
    )
    follows = pl.col("new").is_not_null() & (pl.col("span_id") != pl.col("new"))
    return joined.with_columns(
        pl.when(follows).then("new").otherwise("parent_span_id").alias("parent_span_id"),
        marks.repaired(NAME, follows),
    ).drop("new")
