"""Which hosts' clocks are wrong: the fewest whose freedom lets every bound hold."""

from __future__ import annotations

from collections import defaultdict

import polars as pl

from quality.clock.bounds import TOLERANCE

SHARE = 0.5  # of a pair's calls must lie in slots whose bounds exclude zero, or it is noise
AGAINST = 0.5  # of its calls must exclude zero by themselves: a server may end after its answer
CALLS = 5  # a pair with fewer calls in all proves nothing


def contradictions(bounds: pl.DataFrame) -> pl.DataFrame:
    """Pairs whose bounds say, steadily, that their clocks differ: (caller, callee, weight)."""
    wrong = (pl.col("low") > TOLERANCE) | (pl.col("high") < -TOLERANCE)
    share = (wrong.fill_null(value=False).cast(pl.Float64) * pl.col("calls")).sum() / pl.col(
        "calls"
    ).sum()
    return (
        bounds.group_by("caller", "callee")
        .agg(
            share.alias("share"),
            (pl.col("against").sum() / pl.col("calls").sum()).alias("against"),
            pl.col("calls").sum().alias("weight"),
        )
        .filter(pl.col("share") >= SHARE, pl.col("against") >= AGAINST, pl.col("weight") >= CALLS)
        .sort("caller", "callee")
    )


def suspects(bounds: pl.DataFrame) -> set[str]:
    """A smallest set of hosts that touches every contradiction, chosen greedily: the host in
    most contradictions first; among equals the one with fewer sound pairs, then by name."""
    pairs = contradictions(bounds)
    against: dict[str, set[str]] = defaultdict(set)
    for caller, callee, *_ in pairs.rows():
        against[caller].add(callee)
        against[callee].add(caller)
    sound: dict[str, int] = defaultdict(int)
    for caller, callee in bounds.select("caller", "callee").unique().rows():
        if callee not in against.get(caller, ()):
            sound[caller] += 1
            sound[callee] += 1
    chosen: set[str] = set()
    while any(against.values()):
        worst = min(against, key=lambda host: (-len(against[host]), sound[host], host))
        chosen.add(worst)
        for other in against.pop(worst):
            against[other].discard(worst)
    return chosen


def neighbours(bounds: pl.DataFrame, hosts: set[str]) -> set[str]:
    """Hosts that have a pair with one of `hosts`."""
    one, other = bounds["caller"].to_list(), bounds["callee"].to_list()
    found = {b for a, b in zip(one, other, strict=True) if a in hosts}
    return (found | {a for a, b in zip(one, other, strict=True) if b in hosts}) - hosts
