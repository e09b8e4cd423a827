"""Logs without trace ids: lines per request of the service that writes them.

What a line belongs to is not known, so a template's lines are counted against the requests that
reached its service, in the window and in healthy time. What a failing call explains is taken off
first: a line about it, and the everyday lines that a failed request does not come to. What the
services it calls do as loudly is passed up, and not counted again.
"""

from __future__ import annotations

import polars as pl

from rca.suspects import frame
from rca.suspects.failures import MOST
from rca.suspects.logs import KNOWN, LOUD, RARE, as_before, complaints

KEY = ["service", "template_id"]


def score(logs: pl.DataFrame, spans: pl.DataFrame) -> pl.DataFrame:
    """The worst template of each service that writes no line with a trace id."""
    traced = logs.filter(pl.col("trace_id").is_not_null())["service"].unique()
    lines = logs.filter(pl.col("trace_id").is_null(), ~pl.col("service").is_in(traced.implode()))
    if not lines.height or not spans.height:
        return frame(pl.DataFrame(schema={"service": pl.String, "score": pl.Float64}))
    calls = spans.filter(pl.col("caller") != pl.col("service"))
    calls = calls.select(service="caller", callee="service").unique()
    told = lines.join(complaints(lines, calls), on=KEY, how="anti")
    every = _scored(_counted(told).join(_requests(spans), on="service"))
    worst = every.filter(pl.col("score") > 0).sort("score", "template_id", descending=[True, False])
    worst = worst.unique("service", keep="first", maintain_order=True)
    within = calls.join(worst.select(callee="service", inner="score"), on="callee")
    within = within.group_by("service").agg(pl.col("inner").max())
    worst = worst.join(within, on="service", how="left")
    wrong = ~pl.col("loud") & (pl.col("failed1") < 0.3 * pl.col("n1"))
    return frame(
        worst.select(
            "service",
            "before",
            "after",
            "pod",
            modality=pl.lit("logs/untraced"),
            fault=pl.when(wrong).then(pl.lit("wrong_return")).otherwise(pl.lit("exception")),
            score=pl.col("score") - pl.col("inner").fill_null(0.0),
            subject="template_id",
        )
    )


def _counted(lines: pl.DataFrame) -> pl.DataFrame:
    return lines.group_by(KEY).agg(
        pl.col("bad").sum().cast(pl.Float64).alias("k1"),
        (~pl.col("bad")).sum().cast(pl.Float64).alias("k0"),
        pl.col("bad").is_null().sum().alias("kn"),
        pl.col("severity").is_in(LOUD).any().alias("loud"),
        pl.col("pod").filter("bad").mode().first(),
    )


def _requests(spans: pl.DataFrame) -> pl.DataFrame:
    """Per service how often others ask it (n), how often it failed them (failed), and its failed
    calls (calls)."""
    outer = (pl.col("caller") != pl.col("service")).fill_null(value=True)
    asked = spans.filter(outer).group_by("service")
    each = asked.agg(
        *(part.sum().alias(f"n{name}") for name, part in _parts()),
        *((part & pl.col("error")).sum().alias(f"failed{name}") for name, part in _parts()),
    )
    inner = spans.filter("error", pl.col("caller") != pl.col("service"))
    lost = spans.filter("error", "unanswered")
    failed = pl.concat([inner.select("bad", service="caller"), lost.select("bad", "service")])
    counts = [part.sum().alias(f"calls{name}") for name, part in _parts()]
    each = each.join(failed.group_by("service").agg(counts), on="service", how="left")
    each = each.with_columns(pl.col("calls1", "calls0", "callsn").fill_null(0))
    return each.filter(pl.col("n1") >= 2, pl.col("n0") >= 2)


def _parts() -> list[tuple[str, pl.Expr]]:
    bad = pl.col("bad")
    return [
        ("1", bad.fill_null(value=False)),
        ("0", ~bad.fill_null(value=True)),
        ("n", bad.is_null()),
    ]


def _scored(counted: pl.DataFrame) -> pl.DataFrame:
    """Log-likelihood ratio of two Poisson rates against one, over the lines a request writes, × Δ
    for loud and strange lines that rise, × Δ² for everyday ones that fall."""
    loud = pl.col("loud")
    lines = [
        pl.when(loud)
        .then((pl.col(f"k{name}") - pl.col(f"calls{name}")).clip(lower_bound=0))
        .otherwise(pl.min_horizontal(pl.col(f"k{name}") + pl.col(f"failed{name}"), most))
        for name, most in (
            ("1", pl.max_horizontal("n1", "k1")),
            ("0", pl.max_horizontal("n0", "k0")),
        )
    ]
    found = counted.with_columns(k1=lines[0], k0=lines[1], kn=pl.min_horizontal("kn", "nn"))
    r1, r0 = pl.col("k1") / pl.col("n1"), pl.col("k0") / pl.col("n0")
    likely = _likelihood(pl.col("k1"), pl.col("n1"), pl.col("k0"), pl.col("n0"))
    likely = (likely / pl.max_horizontal(r1, r0, 1.0)).clip(0, MOST)
    step = (r1 - r0).abs().clip(0, 1)
    strange = (r0 <= RARE) & (pl.col("n0") >= KNOWN) & (pl.col("k1") >= 3)
    rises = pl.when(r1 > r0).then(likely * step).otherwise(0.0)
    falls = pl.when(r1 < r0).then(likely * step**2).otherwise(0.0)
    quiet = pl.when(strange).then(rises).otherwise(falls)
    agrees = as_before(r1, r0)
    return found.with_columns(
        before=r0,
        after=r1,
        score=pl.when(loud).then(rises * agrees.clip(0.5)).otherwise(quiet * agrees**1.5),
    )


def _likelihood(k1: pl.Expr, n1: pl.Expr, k0: pl.Expr, n0: pl.Expr) -> pl.Expr:
    rate = (k1 + k0) / (n1 + n0)

    def term(k: pl.Expr, n: pl.Expr) -> pl.Expr:
        return pl.when(k > 0).then(k * (k / n / rate).log()).otherwise(0.0)

    return term(k1, n1) + term(k0, n0)
