"""What `detect` watches: series of a value a minute, and which minutes of them are bad.

Every signal gives (service, subject, minute, value, room): bad is a value beyond the usual by
more than four times its spread and by more than `room`, what a healthy service is allowed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta

import polars as pl

from lake import Lake
from rca.suspects import metrics
from rca.suspects.logs import LOUD

FAILING = 0.05  # more of the requests than usual
SLOWER = 0.405  # of the natural logarithm: 1.5 times the usual p95
CALLS = 5.0  # in a minute, or it tells nothing
LINES = 6.0  # of a loud template, or events of the error tracker, a minute more than usual
SEASON = timedelta(minutes=15)  # as near to the same time of another day
DAYS = 2  # others that have to be recorded to tell what is usual at a time
STEADY = 3  # minutes of another day that were as bad
WATCHED = ("memory", "disk", "capacity")  # a peak of CPU that nobody feels is no incident
KEY = ["signal", "service", "subject"]


def bad(lake: Lake, days: Sequence[date], history: Sequence[date]) -> pl.DataFrame:
    """(service, minute, why, size) of the days' bad minutes; `history` are days to compare with."""
    every = [*days, *history]
    entered = _red(lake, every)
    signals = [entered, _errors(lake, every), _lines(lake, every), _metrics(lake, every, entered)]
    rows = pl.concat([one.select(*KEY, "minute", "value", "room") for one in signals])
    judged = _judged(rows).filter(pl.col("minute").dt.date().is_in(list(days)))
    return judged.filter(_steady()).sort("minute", "service")


def newest(lake: Lake, day: date) -> datetime | None:
    """The last minute anything was recorded, of the days up to one."""
    tops = []
    for table, column in (("red", "minute"), ("logs", "ts"), ("samples", "ts"), ("errors", "ts")):
        rows = lake.scan(table).filter(pl.col("date") == day)
        tops.append(rows.select(pl.col(column).max()).collect().item())
    return max((one for one in tops if one), default=None)


def _of(lake: Lake, table: str, days: Sequence[date]) -> pl.LazyFrame:
    return lake.scan(table).filter(pl.col("date").is_in(list(days)))


def _red(lake: Lake, days: Sequence[date]) -> pl.DataFrame:
    """Share of failing requests, and logarithm of p95, of the services where requests enter."""
    rows = _of(lake, "red", days).filter(
        pl.col("kind").fill_null("server").is_in(["server", "consumer"])
    )
    minutes = (
        rows.group_by("service", "minute")
        .agg(
            pl.col("calls").sum(),
            (pl.col("errors").sum() / pl.col("calls").sum()).alias("share"),
            ((pl.col("duration_p95_ns") * pl.col("calls")).sum() / pl.col("calls").sum()).alias(
                "p95"
            ),
        )
        .filter(pl.col("calls") >= CALLS)
        .collect()
    )
    entries = entry_services(lake)
    if entries:
        minutes = minutes.filter(pl.col("service").is_in(entries))
    noise = 1 / pl.col("calls").sqrt()  # a share or a quantile of few calls wanders
    failing = minutes.select(
        *_named("errors", pl.lit("")), "minute", value="share", room=FAILING + 0.3 * noise
    )
    slow = minutes.select(
        *_named("latency", pl.lit("")),
        "minute",
        value=(pl.col("p95") + 5e6).log(),
        room=SLOWER + noise,
    )
    return pl.concat([failing, slow])


def _named(signal: str, subject: pl.Expr) -> list[pl.Expr]:
    return [pl.lit(signal).alias("signal"), pl.col("service"), subject.alias("subject")]


def entry_services(lake: Lake) -> list[str]:
    """Services that nobody in the lake calls, and those they call: where users feel it."""
    edges = lake.scan("edges").select("caller", "callee").unique().collect()
    if not edges.height:
        return []
    tops = set(edges["caller"]) - set(edges["callee"])
    return sorted(tops | {b for a, b in edges.rows() if a in tops})


def _errors(lake: Lake, days: Sequence[date]) -> pl.DataFrame:
    """Events of each group of the error tracker."""
    rows = _of(lake, "errors", days).filter(pl.col("service").is_not_null())
    counted = rows.group_by(
        "service", pl.col("ts").dt.truncate("1m").alias("minute"), subject="group_id"
    ).len("value")
    return _counts(counted.collect(), "reported errors")


def _lines(lake: Lake, days: Sequence[date]) -> pl.DataFrame:
    """Lines of each WARN and ERROR template."""
    rows = _of(lake, "logs", days).filter(
        pl.col("severity").is_in(LOUD), pl.col("service").is_not_null()
    )
    counted = rows.group_by(
        "service", pl.col("ts").dt.truncate("1m").alias("minute"), subject="template_id"
    ).len("value")
    return _counts(counted.collect(), "log lines")


def _counts(counted: pl.DataFrame, signal: str) -> pl.DataFrame:
    """Counts of minutes, those without any included, of one service's groups."""
    if not counted.height:
        return counted.select(
            *_named(signal, pl.lit("")), "minute", value=pl.lit(0.0), room=pl.lit(0.0)
        )
    minutes = counted.select("minute").unique()
    series = counted.select("service", "subject").unique().join(minutes, how="cross")
    full = series.join(counted, on=["service", "subject", "minute"], how="left")
    return full.select(
        *_named(signal, pl.col("subject")),
        "minute",
        value=pl.col("value").fill_null(0).cast(pl.Float64),
        room=pl.lit(LINES),
    )


def _metrics(lake: Lake, days: Sequence[date], entered: pl.DataFrame) -> pl.DataFrame:
    """Pods' memory, disks and pools; CPU too where no traces tell how requests fare."""
    kinds = [*WATCHED, *([] if entered.height else ["cpu"])]
    labels = lake.scan("series").select(
        "metric", "series", "type", service=pl.col("labels").map.get("service")
    )
    named = labels.with_columns(fault=metrics.kinds()).filter(
        pl.col("fault").is_in(kinds),
        pl.col("service").is_not_null(),
        pl.col("type").fill_null("gauge") != "counter",
        ~pl.col("metric").str.contains(metrics.BASE),
        ~pl.col("metric").str.contains(metrics.PART),
    )
    rows = _of(lake, "samples", days).filter(pl.col("value").is_not_nan())
    means = (
        rows.join(named, on=["metric", "series"])
        .group_by(
            "service",
            pl.format("{}/{}", "metric", "series").alias("subject"),
            pl.col("ts").dt.truncate("1m").alias("minute"),
            "fault",
        )
        .agg(pl.col("value").mean())
        .collect()
    )
    middle = pl.col("value").median().over("service", "subject").abs()
    room = (
        pl.when(pl.col("fault") == "memory")
        .then(0.4 * middle)
        .when(pl.col("fault") == "capacity")
        .then(2 * middle + 3)
        .otherwise(middle)
    )
    return means.select(*_named("metrics", pl.col("subject")), "minute", value="value", room=room)


def _judged(rows: pl.DataFrame) -> pl.DataFrame:
    """The minutes beyond what is usual for their series, and for that time on other days."""
    usual = rows.group_by(KEY).agg(
        pl.col("value").median().alias("usual"),
        (pl.col("value").quantile(0.75) - pl.col("value").quantile(0.25)).alias("iqr"),
        pl.len().alias("seen"),
    )
    joined = rows.join(usual, on=KEY).filter(pl.col("seen") >= 8)
    spread = pl.col("iqr") * 4
    linear = pl.col("signal") != "latency"  # of a logarithm: four times the spread of the value
    spread = pl.when(linear).then(spread).otherwise(spread.log1p())
    beyond = joined.filter(pl.col("value") > pl.col("usual") + pl.max_horizontal(spread, "room"))
    beyond = _unseasonal(beyond, rows)
    size = (pl.col("value") - pl.col("usual")) / pl.col("room")
    return beyond.select("service", "minute", *KEY[2:], why="signal", size=size.clip(0, 20))


def _unseasonal(beyond: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """Without the minutes that are like the same time of most other days, one alone does not
    count: what went wrong yesterday too is no season."""
    day = pl.col("minute").dt.date()
    if not beyond.height or rows.select(day.n_unique()).item() < 2:
        return beyond
    clock = (pl.col("minute") - pl.col("minute").dt.truncate("1d")).alias("clock")
    asked = beyond.with_columns(clock, day=day)
    others = rows.select(*KEY, clock, day.alias("other"), pl.col("value").alias("then"))
    near = asked.select(*KEY, "minute", "clock", "day").join(others, on=KEY, suffix="_other")
    near = near.filter(
        pl.col("day") != pl.col("other"),
        (pl.col("clock") - pl.col("clock_other")).abs() <= SEASON,
    )
    daily = near.group_by(*KEY, "minute", "other").agg(pl.col("then").top_k(STEADY).min())
    season = daily.group_by(*KEY, "minute").agg(
        pl.col("then").quantile(0.5, interpolation="lower"), pl.len().alias("days")
    )
    joined = asked.join(season, on=[*KEY, "minute"], how="left")
    known = pl.col("days").fill_null(0) >= DAYS
    return joined.filter(~known | (pl.col("value") > pl.col("then") + pl.col("room")))


def _steady() -> pl.Expr:
    """Bad minutes with two more bad ones of the same series in the four that surround them."""
    at, by = pl.col("minute"), ["service", "why", "subject"]
    near = [
        (at - at.shift(step).over(by, order_by="minute")).abs() <= timedelta(minutes=3)
        for step in (1, 2, -1, -2)
    ]
    return pl.sum_horizontal([one.fill_null(value=False).cast(pl.Int32) for one in near]) >= 2
