"""Metrics: series per pod that leave their usual range; counters by their rate.

Score: |window's mean − healthy median| over the largest of the pod's own IQR, the fleet's median
IQR, the fleet's median, and a quarter of the pod's median. What a metric tells of is read from
its name by the words the field uses.
"""

from __future__ import annotations

import polars as pl

from rca.suspects import frame

KINDS = (
    ("cpu", r"(?i)cpu"),
    ("memory", r"(?i)mem(ory)?_|_mem(ory)?\b|heap|rss|working_set"),
    ("disk", r"(?i)disk|filesystem|inode|_fs_"),
    ("restarts", r"(?i)restart"),
    ("network_loss", r"(?i)retrans|packet.*(drop|loss|lost)|drop.*packet"),
    ("capacity", r"(?i)pool|queue|saturation|connections|threads|file_descriptors"),
)
BASE = r"(?i)^(node|machine|host|kube_node)_"  # of a whole machine, not of one service
PART = r"(?i)_(bucket|count|sum|created)$|^up$|limit|requests?$|capacity|_max$|_size$"
EVENTS = ("restarts", "network_loss")  # told by how often they happen, whatever their type
SHORT = 2  # points before the window that are compared with it


def kinds() -> pl.Expr:
    """What a metric's name says it measures; null where it says nothing known."""
    return pl.coalesce(
        *(pl.when(pl.col("metric").str.contains(words)).then(pl.lit(name)) for name, words in KINDS)
    )


def gauged(samples: pl.DataFrame, service: str, fault: str) -> bool:
    """Whether there is any metric of a service, in the window, that tells of a fault."""
    mine = samples.filter("bad", pl.col("service") == service)
    return bool((mine.select("metric").unique().select(kinds()).to_series() == fault).any())


def rated(samples: pl.DataFrame) -> pl.DataFrame:
    """Counters turned into their rate a second (a value below the one before is a reset); gauges
    as they are."""
    counter = (pl.col("type") == "counter") | pl.col("metric").str.ends_with("_total")
    grows = pl.col("fault").is_in(EVENTS) | counter.fill_null(value=False)
    kept = samples.filter(~grows)
    counters = samples.filter(grows).sort("metric", "series", "ts")
    by = ["metric", "series"]
    step = pl.col("value") - pl.col("value").shift(1).over(by)
    took = (pl.col("ts") - pl.col("ts").shift(1).over(by)).dt.total_microseconds() / 1e6
    rise = pl.when(step < 0).then(pl.col("value")).otherwise(step)
    rates = counters.with_columns(value=rise / took).filter(
        pl.col("value").is_not_null(), took < 600
    )
    return pl.concat([kept, rates])


def usual(samples: pl.DataFrame) -> pl.DataFrame:
    """Per series: healthy median and IQR, and the window's mean."""
    spread = pl.col("value").filter(~pl.col("bad"))
    return samples.group_by("metric", "series", "service", "pod", "fault").agg(
        spread.median().alias("before"),
        (spread.quantile(0.75) - spread.quantile(0.25)).alias("iqr"),
        spread.quantile(0.98).alias("peak"),
        pl.col("value").filter("bad").mean().alias("after"),
        pl.col("bad").sum().alias("points"),
        spread.len().alias("seen"),
    )


def score(samples: pl.DataFrame) -> pl.DataFrame:
    """What a pod's series say against its service, the worst of each kind."""
    names = samples.select(pl.col("metric").unique()).with_columns(fault=kinds())
    telling = names.filter(
        pl.col("fault").is_not_null(),
        ~pl.col("metric").str.contains(BASE),
        ~pl.col("metric").str.contains(PART),
    )
    named = samples.join(telling, on="metric", maintain_order="left").filter(
        pl.col("service").is_not_null(),
        pl.col("type").fill_null("gauge").is_in(["gauge", "unknown", "counter"]),
    )
    each = usual(rated(named)).filter(pl.col("points") > 0, pl.col("seen") >= 8)
    floor = pl.max_horizontal(
        "iqr",
        pl.col("iqr").median().over("metric"),
        pl.when(pl.col("fault") == "memory")
        .then(pl.col("before").abs() * 0.1)
        .otherwise(pl.col("before").abs().median().over("metric")),
        pl.when(pl.col("fault") == "memory").then(0.0).otherwise(pl.col("before").abs() * 0.25),
        pl.when(pl.col("fault") == "capacity").then(1.0).otherwise(1e-9),  # places are whole
        pl.when(pl.col("fault").is_in(EVENTS)).then(0.01).otherwise(0.0),  # one in 100 s
    )
    beyond = (pl.col("after") - pl.max_horizontal("before", 0.5 * pl.col("peak"))) / floor
    rise = pl.min_horizontal((pl.col("after") - pl.col("before")) / floor, 3 * beyond)
    scored = each.with_columns(score=rise.clip(-1e6, 1e6))
    worst = scored.sort("score", "metric", "pod", "series", descending=[True, *[False] * 3]).unique(
        ["service", "fault"], keep="first", maintain_order=True
    )
    restarts = pl.col("fault") == "restarts"
    return frame(
        worst.select(
            "service",
            modality=pl.concat_str(pl.lit("metrics/"), "fault"),
            fault=pl.when(restarts).then(pl.lit("memory")).otherwise("fault"),
            score="score",
            pod="pod",
            subject="metric",
            before="before",
            after="after",
        )
    )
