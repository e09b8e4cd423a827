"""Which hosts' clocks are wrong: the fewest whose freedom lets every bound hold."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection

import numpy as np
import polars as pl

from quality.clock.bounds import TOLERANCE

SHARE = 0.5  # of a pair's calls must lie in slots whose bounds exclude zero, or it is noise
AGAINST = 0.5  # of its calls must exclude zero by themselves: a server may end after its answer
CALLS = 5  # a pair with fewer calls in all proves nothing
STEADY = 0.75  # what one window alone tells of a pair must be told by so many of its calls,
MANY = 20  # and by no fewer


def contradictions(
    bounds: pl.DataFrame, against: float = AGAINST, calls: int = CALLS
) -> pl.DataFrame:
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
        .filter(pl.col("share") >= SHARE, pl.col("against") >= against, pl.col("weight") >= calls)
        .sort("caller", "callee")
    )


def suspects(bounds: pl.DataFrame) -> set[str]:
    """A smallest set of hosts whose freedom lets the bounds hold: one that touches every
    contradiction, and what its hosts carry along."""
    return _freed(bounds, contradictions(bounds))


def within(window: pl.DataFrame, wrong: Collection[str]) -> set[str]:
    """The suspects of one window: of those that are wrong in all the bounds the ones it has, and
    those that are wrong in it alone, as after a step that most of the time does not see."""
    known = list(wrong)
    touched = pl.col("caller").is_in(known) | pl.col("callee").is_in(known)
    others = window.filter(~touched)
    here = set(window["caller"]) | set(window["callee"])
    return (set(wrong) & here) | _freed(others, contradictions(others, STEADY, MANY))


def _freed(bounds: pl.DataFrame, pairs: pl.DataFrame) -> set[str]:
    against: dict[str, set[str]] = defaultdict(set)
    for caller, callee, *_ in pairs.rows():
        against[caller].add(callee)
        against[callee].add(caller)
    chosen = _cover(bounds, {host: set(others) for host, others in against.items()})
    for host in sorted(chosen):
        partners = against[host] - chosen
        if partners:
            chosen = (chosen - {host}) | _together(bounds, host, partners, chosen)
    return chosen


def _cover(bounds: pl.DataFrame, against: dict[str, set[str]]) -> set[str]:
    """Hosts that touch every contradiction, chosen greedily: the host in most of them first; among
    equals the one with fewer sound pairs, then by name."""
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


def _together(bounds: pl.DataFrame, host: str, partners: set[str], chosen: set[str]) -> set[str]:
    """What moves with a host that contradicts its partners: the hosts whose calls with it say that
    their clocks are alike. If they are more than those alike to the partners, these move instead;
    where the two are not apart, the host moves alone."""
    others = list(partners)
    called = (pl.col("callee") == host) & pl.col("caller").is_in(others)
    calls = (pl.col("caller") == host) & pl.col("callee").is_in(others)
    ahead = _ahead(bounds, calls, called)
    bounds = bounds.filter(~calls, ~called)
    mine = _carried(bounds, {host}, ahead, chosen)
    if mine == {host} or mine & partners:
        return {host}
    theirs = _carried(bounds, partners, -ahead, chosen - {host})
    return mine if len(mine) <= len(theirs) or theirs & mine else theirs


def _ahead(bounds: pl.DataFrame, calls: pl.Expr, called: pl.Expr) -> float:
    """By how much a host's clock shows more than that of the hosts it `calls` and is `called` by,
    at the least, in ns."""
    low, high = pl.col("low").fill_null(0), pl.col("high").fill_null(0)
    least = pl.when(low > 0).then(low).when(high < 0).then(high)
    shown = pl.when(called).then(least).when(calls).then(-least)
    found = bounds.select(shown.cast(pl.Float64)).to_series().drop_nulls()
    return float(np.median(found.to_numpy())) if found.len() else 0.0


def _carried(bounds: pl.DataFrame, seeds: set[str], ahead: float, chosen: set[str]) -> set[str]:
    """The seeds and all held hosts that bounds tie to them, if the seeds are `ahead` by so much."""
    up = (pl.col("low") > TOLERANCE - ahead) | (pl.col("high") < -ahead - TOLERANCE)
    down = (pl.col("low") > TOLERANCE + ahead) | (pl.col("high") < ahead - TOLERANCE)
    weight = pl.col("calls").sum()
    ties = bounds.group_by("caller", "callee").agg(
        *(
            ((one.fill_null(value=False) * pl.col("calls")).sum() / weight >= SHARE).alias(name)
            for name, one in (("calls_it", up), ("called_by", down))
        ),
        weight=weight,
    )
    ties = ties.filter(pl.col("weight") >= CALLS)
    reach: dict[str, set[str]] = defaultdict(set)
    for caller, callee, calls_it, called_by, _ in ties.rows():
        if calls_it:
            reach[caller].add(callee)
        if called_by:
            reach[callee].add(caller)
    found = set(seeds)
    edge = found
    while edge:
        edge = {other for one in edge for other in reach[one]} - found - (chosen - seeds)
        found = found | edge
    return found


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
