"""Network: the time between a caller's span and its callee's, which neither of them spends.

Per edge the median gap in the window less the one in healthy time, over the healthy spread,
less the median growth of the caller's other edges; blamed on the callee.
"""

from __future__ import annotations

import polars as pl

from rca.suspects import frame

MS = 1e6


def edges(spans: pl.DataFrame) -> pl.DataFrame:
    """Calls between services: caller, callee, pod (the callee's), gap in ns, bad."""
    caller = spans.select(
        "trace_id",
        parent_span_id="span_id",
        caller="service",
        whole="duration_ns",
    ).unique(["trace_id", "parent_span_id"], keep="any")
    calls = spans.filter(pl.col("kind").fill_null("") != "consumer").join(
        caller, on=["trace_id", "parent_span_id"]
    )
    calls = calls.filter(pl.col("service") != pl.col("caller"))
    gap = (pl.col("whole") - pl.col("duration_ns")).cast(pl.Float64)
    return calls.select("caller", "bad", "pod", "cluster", callee="service", gap=gap, start="start")


def score(spans: pl.DataFrame) -> pl.DataFrame:
    """What the gaps of its callers' edges say against each service."""
    calls = edges(spans)
    pair = ["caller", "callee"]
    healthy = (
        calls.filter(~pl.col("bad"))
        .group_by(pair)
        .agg(
            pl.col("gap").median().alias("before"),
            (pl.col("gap").quantile(0.75) - pl.col("gap").quantile(0.25)).alias("iqr"),
            pl.len().alias("seen"),
        )
    )
    now = (
        calls.filter("bad")
        .group_by(pair)
        .agg(pl.col("gap").median().alias("after"), pl.len().alias("count"))
    )
    spread = pl.col("iqr") / 1.35 + MS + 0.1 * pl.col("before").abs()
    grown = now.join(healthy, on=pair).filter(pl.col("count") >= 2, pl.col("seen") >= 2)
    grown = grown.with_columns(z=(pl.col("after") - pl.col("before")) / spread)
    others = _others(grown)
    blamed = grown.join(others, on=pair, how="left").with_columns(
        score=pl.col("z") - pl.col("other").fill_null(0.0)
    )
    worst = blamed.sort("score", descending=True).unique(
        "callee", keep="first", maintain_order=True
    )
    return frame(
        worst.select(
            service="callee",
            modality=pl.lit("network"),
            fault=pl.lit("network_delay"),
            score="score",
            subject="caller",
            before=pl.col("before") / MS,
            after=pl.col("after") / MS,
        )
    )


def _others(grown: pl.DataFrame) -> pl.DataFrame:
    """For each edge the median growth of its caller's other edges (0 where there are none)."""
    pairs = grown.select("caller", "callee").join(
        grown.select("caller", "z", rival="callee"), on="caller"
    )
    pairs = pairs.filter(pl.col("callee") != pl.col("rival"))
    return pairs.group_by("caller", "callee").agg(
        pl.col("z").median().clip(lower_bound=0.0).alias("other")
    )
