"""Latency: the share of a service's spans whose self-time is far above what is usual for their
operation, in the window against healthy time. Self-time, so that a caller is not blamed for its
callee. What a service spends waiting for a store or for somebody outside is named as such; what it
spends by itself is its CPU's, if nothing better is known."""

from __future__ import annotations

import polars as pl

from rca.suspects import frame
from rca.suspects.failures import likelihood
from rca.suspects.logs import as_before

MS = 1e6
FACTOR = 1.5  # of the healthy 95th percentile: beyond it a span is slow
KEY = ["service", "operation"]


def slow(spans: pl.DataFrame) -> pl.DataFrame:
    """`spans` with `slow`: self-time beyond 1.5 × its operation's healthy q95 and by over 1 ms."""
    usual = (
        spans.filter(~pl.col("bad"))
        .group_by(KEY)
        .agg(pl.col("self_ns").quantile(0.95).alias("q95"))
    )
    joined = spans.join(usual, on=KEY, how="left", maintain_order="left")
    beyond = (pl.col("self_ns") > FACTOR * pl.col("q95")) & (pl.col("self_ns") - pl.col("q95") > MS)
    return joined.with_columns(beyond.fill_null(value=False).alias("slow"))


def score(spans: pl.DataFrame) -> pl.DataFrame:
    """The growth of the share of slow spans, as far as it is no chance, weighed by the share of
    all time lost that is lost here. Waiting for another service is no time of its own."""
    own = spans.filter(~pl.col("client"))
    marked = slow(own)
    each = marked.group_by(KEY).agg(
        pl.col("slow").filter("bad").sum().alias("k1"),
        pl.col("slow").filter(~pl.col("bad")).sum().alias("k0"),
        pl.col("bad").sum().alias("n1"),
        (~pl.col("bad")).sum().alias("n0"),
        pl.col("slow").filter(pl.col("bad").is_null()).sum().alias("kn"),
        pl.col("bad").is_null().sum().alias("nn"),
        (pl.col("self_ns") - pl.col("q95"))
        .filter(pl.col("bad") & pl.col("slow"))
        .sum()
        .alias("lost"),
        pl.col("pod").filter(pl.col("bad") & pl.col("slow")).mode().sort().first().alias("pod"),
        pl.col("party").first(),
    )
    each = each.filter(pl.col("k1") >= 3, pl.col("n0") >= 1).sort(KEY)
    before, after = pl.col("k0") / pl.col("n0"), pl.col("k1") / pl.col("n1")
    likely = likelihood(pl.col("k1"), pl.col("n1"), pl.col("k0") + 0.5, pl.col("n0") + 1)
    sure = (1 - (-likely.clip(0, None) / 4).exp()) * as_before(after, before)
    grown = (after - (pl.col("k0") + 0.5) / (pl.col("n0") + 1)).clip(lower_bound=0.0)
    scored = each.with_columns(
        score=10 * grown * sure * (pl.col("lost") / pl.col("lost").sum()).sqrt(),
        before=before,
        after=after,
    )
    worst = scored.sort("score", "operation", descending=[True, False]).unique(
        "service", keep="first", maintain_order=True
    )
    faults = {"external": "external", "store": "dependency"}
    waits = pl.col("party").replace_strict(faults, default="cpu", return_dtype=pl.String)
    return frame(
        worst.select(
            "service",
            modality=pl.lit("latency"),
            fault=waits,
            score="score",
            pod="pod",
            subject="operation",
            before="before",
            after="after",
        )
    )
