"""Metrics: gauges per pod that leave their usual range.

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
    ("disk", r"(?i)disk|filesystem|inode"),
    ("capacity", r"(?i)pool|queue|saturation|connections|threads|file_descriptors"),
)
BASE = r"(?i)^(node|machine|host|kube)_"  # of a whole machine, not of one service
PART = r"(?i)_(bucket|count|sum|created)$|^up$|limit|requests?$|capacity|_max$|_size$"


def usual(samples: pl.DataFrame) -> pl.DataFrame:
    """Per series: healthy median and IQR, and the window's mean."""
    spread = pl.col("value").filter(~pl.col("bad"))
    return samples.group_by("metric", "series", "service", "pod").agg(
        spread.median().alias("before"),
        (spread.quantile(0.75) - spread.quantile(0.25)).alias("iqr"),
        pl.col("value").filter("bad").mean().alias("after"),
        pl.col("bad").sum().alias("points"),
        spread.len().alias("seen"),
    )


def score(samples: pl.DataFrame) -> pl.DataFrame:
    """What a pod's gauges say against its service, the worst of each kind."""
    kind = pl.coalesce(
        *(pl.when(pl.col("metric").str.contains(words)).then(pl.lit(name)) for name, words in KINDS)
    )
    named = samples.filter(
        pl.col("service").is_not_null(),
        ~pl.col("metric").str.contains(BASE),
        ~pl.col("metric").str.contains(PART),
        pl.col("type").fill_null("gauge").is_in(["gauge", "unknown"]),
    )
    each = usual(named).filter(pl.col("points") > 0, pl.col("seen") >= 8).with_columns(fault=kind)
    each = each.filter(pl.col("fault").is_not_null())
    floor = pl.max_horizontal(
        "iqr",
        pl.col("iqr").median().over("metric"),
        pl.col("before").abs().median().over("metric"),
        pl.col("before").abs() * 0.25,
        pl.when(pl.col("fault") == "capacity").then(1.0).otherwise(1e-9),  # places are whole
    )
    rise = (pl.col("after") - pl.col("before")) / floor
    scored = each.with_columns(score=rise)
    worst = scored.sort("score", "metric", descending=[True, False]).unique(
        ["service", "fault"], keep="first", maintain_order=True
    )
    return frame(
        worst.select(
            "service",
            modality=pl.concat_str(pl.lit("metrics/"), "fault"),
            fault="fault",
            score="score",
            pod="pod",
            subject="metric",
            before="before",
            after="after",
        )
    )
