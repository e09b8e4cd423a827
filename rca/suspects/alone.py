"""Lines and reports counted by themselves, where there are no traces to count requests by.

A WARN or ERROR template, or a group of the error tracker, that comes more often than in healthy
time, for as many everyday lines as are written (minutes, where there are none): a log-likelihood
ratio of two Poisson rates, less what the best of so many reaches by chance, × the share of the rate
that is new. Weaker than what traces tell: what fails inside makes everything around it complain.
"""

from __future__ import annotations

from datetime import datetime

import polars as pl

from rca.facts import Facts
from rca.question import Stretch
from rca.suspects import frame
from rca.suspects.failures import MOST
from rca.suspects.logs import LOUD

LEAST = 3  # events in the window


def score(seen: Facts) -> pl.DataFrame:
    """What lines and reports say against each service; nothing where traces can be compared, and
    nothing of lines of which only a part was read."""
    bad = set(seen.spans["bad"].drop_nulls().unique())
    none = frame(pl.DataFrame(schema={"service": pl.String, "score": pl.Float64}))
    if bad == {True, False}:
        return none
    parts = [_risen(seen, seen.errors, "reports", pl.col("type"))]
    if all(one["table"] != "logs" for one in seen.sampled):
        loud = seen.logs.filter(pl.col("severity").is_in(LOUD))
        parts.append(_risen(seen, loud, "lines", pl.col("template_id")))
    return pl.concat([none, *parts])


def _risen(seen: Facts, events: pl.DataFrame, modality: str, subject: pl.Expr) -> pl.DataFrame:
    """The subject of each service that rises most, by its rates a minute."""
    began = pl.concat([seen.logs.select("ts", "bad"), seen.errors.select("ts", "bad")])
    first = began.filter(~pl.col("bad"))["ts"].min()
    now = _minutes([seen.window])
    usual = 0.0
    if isinstance(first, datetime):
        usual = _minutes([(max(one, first), end) for one, end in seen.baselines if end > first])
    if not usual:
        return frame(events.clear().select("service", score=pl.lit(0.0)))
    counted = events.group_by("service", subject.alias("subject")).agg(
        k1=pl.col("bad").sum(), k0=(~pl.col("bad")).sum()
    )
    busy = _busy(seen, now, usual)
    r1, r0 = pl.col("k1") / now, pl.col("k0") / usual * busy
    both = (pl.col("k1") + pl.col("k0")) / (now + usual / busy)
    calm = pl.when(pl.col("k0") > 0).then(pl.col("k0") * (r0 / both).log()).otherwise(0.0)
    likely = (pl.col("k1") * (r1 / both).log() + calm - pl.len().log()).clip(0, MOST)
    scored = counted.with_columns(
        score=likely * (r1 - r0) / (r1 + r0), before=pl.col("k0") / usual, after=r1
    )
    risen = scored.filter(pl.col("k1") >= LEAST, r1 > r0)
    worst = risen.sort("score", "service", "subject", descending=[True, False, False]).unique(
        "service", keep="first", maintain_order=True
    )
    return frame(worst.with_columns(modality=pl.lit(modality), fault=pl.lit("unknown")))


def _busy(seen: Facts, now: float, usual: float) -> float:
    """How many times as many everyday lines a minute are written as in healthy time."""
    calm = seen.logs.filter(~pl.col("severity").is_in(LOUD)).group_by("bad").len()
    lines = dict(calm.rows())
    return (lines[True] / now) / (lines[False] / usual) if {True, False} <= set(lines) else 1.0


def _minutes(stretches: list[Stretch]) -> float:
    return sum((end - start).total_seconds() for start, end in stretches) / 60
