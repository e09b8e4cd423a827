"""How a fault spreads: from callee to caller, where dependency, deviation and time agree."""

from __future__ import annotations

import polars as pl

from lake import Lake
from rca.facts import Facts
from rca.question import Stretch
from rca.read import within

GROWN = 1.3  # times the healthy p90 that counts as deviating


def hurt(facts: Facts) -> pl.DataFrame:
    """Calls between services before and during: (caller, callee, hurt), `hurt` when they became
    slower by 30 % and 1 ms, or fail more often by five in a hundred."""
    calls = facts.spans.filter(pl.col("caller") != pl.col("service"))
    took = pl.col("duration_ns")
    each = calls.group_by("caller", callee="service").agg(
        took.filter("bad").quantile(0.9).alias("after"),
        took.filter(~pl.col("bad")).quantile(0.9).alias("before"),
        pl.col("error").filter("bad").mean().alias("fails"),
        pl.col("error").filter(~pl.col("bad")).mean().alias("failed"),
        pl.col("bad").sum().alias("calls"),
    )
    slower = (pl.col("after") > GROWN * pl.col("before")) & (
        pl.col("after") - pl.col("before") > 1e6
    )
    worse = pl.col("fails") - pl.col("failed").fill_null(0.0) > 0.05
    return each.with_columns(hurt=(slower | worse).fill_null(value=False)).sort("caller", "callee")


def propagation(edges: pl.DataFrame, root: str, *, waits_outside: bool) -> list[tuple[str, str]]:
    """(from, to) pairs along which the fault went up from the root, nearest first.

    The first step needs no deviation of the callee's own spans where the time is lost outside
    them (network).
    """
    out: list[tuple[str, str]] = []
    reached, front = {root}, [root]
    rows = edges.filter(pl.col("calls") > 0).to_dicts()
    while front:
        here = front.pop(0)
        for row in rows:
            caller = row["caller"]
            direct = here == root and waits_outside
            if row["callee"] == here and caller not in reached and (row["hurt"] or direct):
                out.append((here, caller))
                reached.add(caller)
                front.append(caller)
    return out


def recorded(lake: Lake, stretch: Stretch) -> set[tuple[str, str]]:
    """The (caller, callee) of which `edges` has minutes in a stretch of time."""
    rows = lake.scan("edges").filter(within("minute", stretch))
    return set(rows.select("caller", "callee").unique().collect().rows())


def behind(spans: pl.DataFrame, service: str) -> set[str]:
    """A service with all that it calls, directly or through others."""
    calls = spans.filter(pl.col("caller") != pl.col("service"))
    below: dict[str, set[str]] = {}
    for caller, callee in calls.select("caller", "service").unique().rows():
        below.setdefault(caller, set()).add(callee)
    found, front = {service}, {service}
    while front:
        front = {callee for caller in front for callee in below.get(caller, ())} - found
        found |= front
    return found


def linked(spans: pl.DataFrame) -> bool:
    """Whether the spans tell who calls whom, where there are several services."""
    return (
        spans["service"].drop_nulls().n_unique() < 2 or spans["caller"].null_count() < spans.height
    )


def callers(edges: pl.DataFrame) -> dict[str, set[str]]:
    """Who calls each service."""
    found: dict[str, set[str]] = {}
    for caller, callee in edges.select("caller", "callee").rows():
        found.setdefault(callee, set()).add(caller)
    return found
