"""`detect`: incidents found in `red`, by services at which requests enter.

A minute is bad when a service's requests fail, or take longer, far beyond what is usual for it;
three bad minutes of four open an incident, ten good ones close it. Incidents of services that
overlap in time are one.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from lake import Lake
from rca import keep

MINUTE = timedelta(minutes=1)
QUIET = timedelta(minutes=10)
FAILING = 0.05  # more of the requests than usual
SLOWER = 1.5  # times the usual p95
CALLS = 5.0  # in a minute, or it tells nothing


def detect(lake: Lake, since: datetime | None = None) -> pl.DataFrame:
    """The incidents of the time since then, added to `incidents`; the ones found, oldest first."""
    rows = lake.scan("red")
    if since:
        rows = rows.filter(pl.col("date") >= since.date(), pl.col("minute") >= since)
    minutes = by_minute(rows.collect())
    entries = entry_services(lake)
    if entries:
        minutes = minutes.filter(pl.col("service").is_in(entries))
    found = [_incident(group) for group in _groups(bad_minutes(minutes))]
    newest = minutes["minute"].max() if minutes.height else None
    rows_out = [_row(one, newest) for one in found]
    keep.add_incidents(lake, rows_out)
    names = [row["incident_id"] for row in rows_out]
    return (
        lake.scan("incidents")
        .filter(pl.col("incident_id").is_in(names))
        .sort("opened_at")
        .collect()
    )


def by_minute(red: pl.DataFrame) -> pl.DataFrame:
    """(service, minute, calls, share, p95): how the requests a service answered went."""
    answering = red.filter(pl.col("kind").fill_null("server").is_in(["server", "consumer"]))
    return (
        answering.group_by("service", "minute")
        .agg(
            pl.col("calls").sum(),
            (pl.col("errors").sum() / pl.col("calls").sum()).alias("share"),
            ((pl.col("duration_p95_ns") * pl.col("calls")).sum() / pl.col("calls").sum()).alias(
                "p95"
            ),
        )
        .filter(pl.col("calls") >= CALLS)
        .sort("service", "minute")
    )


def entry_services(lake: Lake) -> list[str]:
    """Services that nobody in the lake calls, and those they call: where users feel it."""
    edges = lake.scan("edges").select("caller", "callee").unique().collect()
    if not edges.height:
        return []
    tops = set(edges["caller"]) - set(edges["callee"])
    return sorted(tops | {b for a, b in edges.rows() if a in tops})


def bad_minutes(minutes: pl.DataFrame) -> pl.DataFrame:
    """The minutes that are far from their service's median of all, with `why`."""
    usual = minutes.group_by("service").agg(
        pl.col("share").median().alias("usual_share"),
        pl.col("p95").median().alias("usual_p95"),
        (pl.col("p95").quantile(0.75) - pl.col("p95").quantile(0.25)).alias("iqr"),
    )
    joined = minutes.join(usual, on="service")
    failing = pl.col("share") > pl.col("usual_share") + FAILING
    slow = (pl.col("p95") > SLOWER * pl.col("usual_p95")) & (
        pl.col("p95") > pl.col("usual_p95") + 4 * pl.col("iqr") + 5e6
    )
    why = pl.when(failing).then(pl.lit("errors")).when(slow).then(pl.lit("latency"))
    size = (
        pl.when(failing).then(pl.col("share") * 10).otherwise(pl.col("p95") / pl.col("usual_p95"))
    )
    bad = joined.with_columns(why=why, size=size).filter(pl.col("why").is_not_null())
    return bad.filter(_steady()).sort("minute", "service")


def _steady() -> pl.Expr:
    """Bad minutes with two more bad ones of the same service in the four that surround them."""
    at = pl.col("minute")
    near = [
        (at - at.shift(step).over("service")).abs() <= timedelta(minutes=3)
        for step in (1, 2, -1, -2)
    ]
    return pl.sum_horizontal([one.fill_null(value=False).cast(pl.Int32) for one in near]) >= 2


def _groups(bad: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Bad minutes of all services, cut where ten minutes were good."""
    if not bad.height:
        return
    gap = (pl.col("minute") - pl.col("minute").shift(1)) > QUIET
    keyed = bad.with_columns(group=gap.fill_null(value=False).cum_sum())
    yield from keyed.partition_by("group", maintain_order=True)


def _incident(group: pl.DataFrame) -> dict[str, Any]:
    """One incident: the service that suffers most speaks for it."""
    felt = group.group_by("service").agg(pl.col("size").sum(), pl.col("why").mode().first())
    worst = felt.sort("size", "service", descending=[True, False]).row(0, named=True)
    return {
        "onset": group["minute"].min(),
        "last": group["minute"].max(),
        "service": worst["service"],
        "why": worst["why"],
        "services": sorted(group["service"].unique()),
    }


def _row(found: dict[str, Any], newest: Any) -> dict[str, Any]:
    opened = found["onset"] + 2 * MINUTE
    over = newest - found["last"] > QUIET
    return {
        "incident_id": keep.name_of(found["onset"]),
        "opened_at": opened,
        "closed_at": found["last"] + MINUTE if over else None,
        "onset": found["onset"],
        "trigger": f"{found['why']} of {found['service']}",
        "service": found["service"],
        "severity": "critical" if found["why"] == "errors" else "warning",
        "status": "closed" if over else "open",
        "labels": [{"key": "services", "value": ", ".join(found["services"])}],
    }
