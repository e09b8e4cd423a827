"""Logs: templates whose share of requests flips.

Per (service, entry operation, template): of the requests that reached the service, the share
whose trace wrote it, in the window against healthy time; log-likelihood ratio × Δshare². Only
ordinary templates that fall silent and WARN or ERROR templates that rise count, and a loud line
only in the innermost service of its trace that is loud; the worst speaks for its service.
"""

from __future__ import annotations

import polars as pl

from rca.suspects import frame
from rca.suspects.failures import likelihood

LOUD = ("WARN", "ERROR", "FATAL")
THROWN = r"(?i)exception|traceback|panic|threw|stack ?trace|segfault|unhandled"


def flips(logs: pl.DataFrame, spans: pl.DataFrame) -> pl.DataFrame:
    """Every (service, entry, template) with its shares and score."""
    key = ["service", "entry", "template_id"]
    reached = spans.group_by("service", "entry").agg(
        pl.col("trace_id").filter("bad").n_unique().alias("n1"),
        pl.col("trace_id").filter(~pl.col("bad")).n_unique().alias("n0"),
    )
    loud = pl.col("severity").is_in(LOUD)
    counted = (
        innermost(logs.filter(pl.col("entry").is_not_null()), spans)
        .group_by(key)
        .agg(
            pl.col("trace_id").filter("bad").n_unique().alias("k1"),
            pl.col("trace_id").filter(~pl.col("bad")).n_unique().alias("k0"),
            loud.any().alias("loud"),
            pl.col("pod").filter("bad").mode().first().alias("pod"),
            pl.col("template").first().str.contains(THROWN).alias("thrown"),
        )
        .join(reached, on=["service", "entry"])
        .filter(pl.col("n1") >= 2, pl.col("n0") >= 2)
        .with_columns(
            pl.min_horizontal("k1", "n1").alias("k1"), pl.min_horizontal("k0", "n0").alias("k0")
        )
    )
    p1, p0 = pl.col("k1") / pl.col("n1"), pl.col("k0") / pl.col("n0")
    counts = pl.when("loud").then(p1 > p0).otherwise(p1 < p0)
    weight = likelihood(pl.col("k1"), pl.col("n1"), pl.col("k0"), pl.col("n0")) * (p1 - p0) ** 2
    return counted.with_columns(
        before=p0, after=p1, score=pl.when(counts).then(weight).otherwise(0.0)
    )


def innermost(logs: pl.DataFrame, spans: pl.DataFrame) -> pl.DataFrame:
    """The lines without the loud ones of services whose callees, in the same trace, are loud too:
    an error is passed up, and each service on the way complains of it."""
    ends = pl.col("start_ns") + pl.col("duration_ns")
    stay = spans.group_by("trace_id", "service").agg(
        pl.col("start_ns").min().alias("start"), ends.max().alias("end")
    )
    loud = logs.filter(pl.col("severity").is_in(LOUD)).select("trace_id", "service").unique()
    loud = loud.join(stay, on=["trace_id", "service"])
    outer = (
        loud.join(loud, on="trace_id", suffix="_within")
        .filter(
            pl.col("service") != pl.col("service_within"),
            pl.col("start") < pl.col("start_within"),
            pl.col("end") > pl.col("end_within"),
        )
        .select("trace_id", "service", passed_on=pl.lit(value=True))
        .unique()
    )
    joined = logs.join(outer, on=["trace_id", "service"], how="left", maintain_order="left")
    echo = pl.col("passed_on").fill_null(value=False) & pl.col("severity").is_in(LOUD)
    return joined.filter(~echo).drop("passed_on")


def score(logs: pl.DataFrame, spans: pl.DataFrame) -> pl.DataFrame:
    """The worst flip of each service. A rising template that tells of something thrown is an
    exception's, else the service answered wrongly."""
    found = flips(logs, spans).filter(pl.col("score") > 0)
    if not found.height:
        return frame(found.clear().select("service", "score"))
    thrown = found.filter(pl.col("loud") & pl.col("thrown"))
    rising = thrown.group_by("service").agg(pl.col("score").max().alias("loudest"))
    worst = found.sort("score", descending=True).unique(
        "service", keep="first", maintain_order=True
    )
    worst = worst.join(rising, on="service", how="left", maintain_order="left")
    exception = pl.col("loudest").fill_null(0.0) >= 0.25 * pl.col("score")
    return frame(
        worst.select(
            "service",
            modality=pl.lit("logs"),
            fault=pl.when(exception).then(pl.lit("exception")).otherwise(pl.lit("wrong_return")),
            score="score",
            pod="pod",
            subject="template_id",
            before="before",
            after="after",
        )
    )
