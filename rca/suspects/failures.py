"""Errors: where failing requests begin to fail.

A span counts against its service when it failed and none of its children did, so blame stays at
the deepest failure; a service scores by how much more often that happens than in healthy time.
"""

from __future__ import annotations

import polars as pl

from rca.suspects import frame

HANDS_ON = 0.05  # of an operation's good spans that calls outlive, for it not to wait for them
MOST = 40.0  # log-likelihood beyond which more requests tell nothing more


def origins(spans: pl.DataFrame) -> pl.DataFrame:
    """Failed spans without a failed child. A call that failed though its callee did not, for it
    was too slow or was never reached, is not its caller's doing; nor is what gave up waiting."""
    failed = spans.filter("error")
    above = failed.select("trace_id", span_id="parent_span_id").drop_nulls().unique()
    deepest = failed.join(above, on=["trace_id", "span_id"], how="anti")
    waited = gave_up(spans).select("trace_id", "span_id")
    return deepest.filter(~pl.col("client")).join(waited, on=["trace_id", "span_id"], how="anti")


def gave_up(spans: pl.DataFrame) -> pl.DataFrame:
    """Failed spans that a call of theirs outlived; not of operations that hand work on, whose good
    spans are outlived too."""
    failed = spans.filter(pl.col("error") & pl.col("outlived"))
    by = ["service", "operation"]
    good = spans.filter(~pl.col("error")).join(failed.select(by).unique(), on=by, how="semi")
    handing = good.group_by(by).agg(pl.col("outlived").mean()).filter(pl.col("outlived") > HANDS_ON)
    return failed.join(handing, on=by, how="anti")


def score(spans: pl.DataFrame) -> pl.DataFrame:
    """Binomial log-likelihood ratio of a service's failing requests, times (Δ share)²."""
    requests = spans.group_by("bad").agg(pl.col("trace_id").n_unique().alias("requests"))
    totals = dict(requests.rows())
    deep = origins(spans)
    each = deep.group_by("service").agg(
        pl.col("trace_id").filter("bad").n_unique().alias("k1"),
        pl.col("trace_id").filter(~pl.col("bad")).n_unique().alias("k0"),
        pl.col("pod").filter("bad").mode().sort().first().alias("pod"),
        pl.col("operation").filter("bad").mode().sort().first().alias("subject"),
        (pl.col("party") == "external").filter("bad").mean().alias("outside"),
    )
    own = spans.group_by("service").agg(
        pl.col("trace_id").filter("bad").n_unique().alias("n1"),
        pl.col("trace_id").filter(~pl.col("bad")).n_unique().alias("n0"),
    )
    each = each.join(own, on="service")
    if not totals.get(True) or not each.height:
        return frame(each.clear().select("service", score=pl.lit(0.0)))
    p1, p0 = pl.col("k1") / pl.col("n1"), pl.col("k0") / pl.col("n0").clip(lower_bound=1)
    likely = likelihood(pl.col("k1"), pl.col("n1"), pl.col("k0"), pl.col("n0")).clip(0, MOST)
    rises = pl.when(p1 > p0).then(likely * (p1 - p0)).otherwise(0.0)
    return frame(
        each.select(
            "service",
            modality=pl.lit("errors"),
            fault=pl.when(pl.col("outside") > 0.5)
            .then(pl.lit("external"))
            .otherwise(pl.lit("exception")),
            score=rises,
            pod="pod",
            subject="subject",
            before=p0,
            after=p1,
        )
    )


def likelihood(k1: pl.Expr, n1: pl.Expr, k0: pl.Expr, n0: pl.Expr) -> pl.Expr:
    """Log-likelihood ratio of two binomial samples having different shares against one share
    (Dunning 1993). Null where one sample is empty."""
    p1, p0, p = k1 / n1, k0 / n0, (k1 + k0) / (n1 + n0)

    def term(k: pl.Expr, n: pl.Expr, q: pl.Expr) -> pl.Expr:
        yes = pl.when(k > 0).then(k * q.log()).otherwise(0.0)
        return yes + pl.when(n > k).then((n - k) * (1 - q).log()).otherwise(0.0)

    return term(k1, n1, p1) + term(k0, n0, p0) - term(k1, n1, p) - term(k0, n0, p)
