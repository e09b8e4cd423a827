"""Which hosts' clocks are wrong: the fewest whose freedom lets every bound hold."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection

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


def anchored(bounds: pl.DataFrame, free: Collection[str]) -> set[str]:
    """Those of the free clocks that bounds of both sides tie, by whatever way, to one that is
    held."""
    both = bounds.filter(pl.col("low").is_not_null(), pl.col("high").is_not_null())
    ties: dict[str, set[str]] = defaultdict(set)
    for caller, callee in both.select("caller", "callee").unique().rows():
        ties[caller].add(callee)
        ties[callee].add(caller)
    found = {host for host in ties if host not in free}
    edge = found
    while edge:
        edge = {other for host in edge for other in ties[host]} - found
        found = found | edge
    return found & set(free)
