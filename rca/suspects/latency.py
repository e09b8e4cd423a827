"""Latency: the share of a service's spans whose self-time is far above what is usual for their
operation, in the window against healthy time. Self-time, so that a caller is not blamed for its
callee."""

from __future__ import annotations

import polars as pl

from rca.suspects import frame

MS = 1e6
FACTOR = 1.5  # of the healthy 95th percentile: beyond it a span is slow


def slow(spans: pl.DataFrame) -> pl.DataFrame:
    """`spans` with `slow`: self-time beyond 1.5 × its operation's healthy q95 and by over 1 ms."""
    key = ["service", "operation"]
    usual = (
        spans.filter(~pl.col("bad"))
        .group_by(key)
        .agg(pl.col("self_ns").quantile(0.95).alias("q95"))
    )
    joined = spans.join(usual, on=key, how="left", maintain_order="left")
    beyond = (pl.col("self_ns") > FACTOR * pl.col("q95")) & (pl.col("self_ns") - pl.col("q95") > MS)
    return joined.with_columns(beyond.fill_null(value=False).alias("slow"))


def score(spans: pl.DataFrame) -> pl.DataFrame:
    """The growth of the share of slow spans, weighed by how much time they lose."""
    marked = slow(spans)
    key = ["service", "operation"]
    each = marked.group_by(key).agg(
        pl.col("slow").filter("bad").mean().alias("after"),
        pl.col("slow").filter(~pl.col("bad")).mean().alias("before"),
        pl.col("slow").filter("bad").sum().alias("hits"),
        pl.col("bad").sum().alias("count"),
        (pl.col("self_ns") - pl.col("q95"))
        .filter(pl.col("bad") & pl.col("slow"))
        .sum()
        .alias("lost"),
        pl.col("pod").filter(pl.col("bad") & pl.col("slow")).mode().first().alias("pod"),
    )
    each = each.filter(pl.col("hits") >= 3)
    total = pl.col("lost").sum()
    grown = (pl.col("after") - pl.col("before").fill_null(0.0)).clip(lower_bound=0.0)
    scored = each.with_columns(score=10 * grown * (pl.col("lost") / total).sqrt())
    worst = scored.sort("score", descending=True).unique(
        "service", keep="first", maintain_order=True
    )
    return frame(
        worst.select(
            "service",
            modality=pl.lit("latency"),
            fault=pl.lit("dependency"),
            score="score",
            pod="pod",
            subject="operation",
            before="before",
            after="after",
        )
    )
