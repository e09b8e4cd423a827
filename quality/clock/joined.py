"""From the rough ways of clocks to the bounds their lines are solved from, and to the cuts between
lines: each part of a clock's way is a clock of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import polars as pl

from quality.clock import steps
from quality.clock.bounds import TOLERANCE
from quality.clock.hosts import anchored
from quality.clock.lines import NEAR, told
from quality.clock.solve import Floats, Solution, broken
from quality.clock.steps import Times, Track

BLOCKS = 12  # a pair's bounds in a window are thinned to the tightest of so many stretches
Held = Callable[[pl.DataFrame, set[str]], Solution]
OUTSIDE = 1_500_000  # ns beyond the rough estimate, where a bound is taken for wrong


def label(host: str, part: int) -> str:
    """The name of one part of a host's way."""
    return f"{host}\n{part}"


def fewest(
    window: pl.DataFrame, ways: Mapping[str, Track], held: Held
) -> tuple[Mapping[str, Track], Solution]:
    """The ways without those gaps that one line goes across as well, and the lines."""
    sound, tied = thinned(window, ways)
    found = held(sound, tied)
    for host in ways:
        for gap in reversed(range(len(ways[host].gaps))):
            fewer = {**ways, host: ways[host].without(gap)}
            fewer_sound, tied = thinned(window, fewer)
            again = held(fewer_sound, tied)
            most = max(TOLERANCE, broken(sound, found, host))
            if broken(fewer_sound, again, host) <= most:
                ways, found, sound = fewer, again, fewer_sound
    return ways, found


def thinned(window: pl.DataFrame, ways: Mapping[str, Track]) -> tuple[pl.DataFrame, set[str]]:
    """(bounds between parts of ways, the parts that are free): of every pair and stretch the
    tightest, as the rough estimates see them."""
    sides = [_seen(window, ways, side) for side in ("low", "high")]
    keys = ["caller", "callee", "block"]
    both = sides[0].join(sides[1], on=keys, how="full", coalesce=True).sort(keys)
    names = pl.concat([both["caller"], both["callee"]]).unique().to_list()
    free = {name for name in names if name.partition("\n")[0] in ways}
    tied = anchored(both, free)
    loose = list(free - tied)
    sound = both.filter(~pl.col("caller").is_in(loose), ~pl.col("callee").is_in(loose))
    return sound, tied


def _seen(window: pl.DataFrame, ways: Mapping[str, Track], side: str) -> pl.DataFrame:
    """One side's bounds that are not beyond the estimates, the tightest of each block."""
    known = window.filter(pl.col(side).is_not_null())
    at = known[f"at_{side}"].to_numpy()
    caller, callee = (_named(known[name], at, ways) for name in ("caller", "callee"))
    theta = guesses(known["callee"], at, ways) - guesses(known["caller"], at, ways)
    sign = 1 if side == "high" else -1
    first = int(window["at"].min())  # type: ignore[arg-type]
    reach = max(int(window["at"].max()) - first, 1)  # type: ignore[arg-type]
    told = known.select(side, f"at_{side}").with_columns(
        caller=caller,
        callee=callee,
        room=sign * (known[side].cast(pl.Float64).to_numpy() - theta),
        block=pl.Series(np.clip((at - first) * BLOCKS // reach, 0, BLOCKS - 1)),
    )
    sound = told.drop_nulls(["caller", "callee"]).filter(pl.col("room") > -OUTSIDE)
    tight = sound.sort("room", f"at_{side}").unique(
        ["caller", "callee", "block"], keep="first", maintain_order=True
    )
    return tight.drop("room")


def _named(hosts: pl.Series, at: Times, ways: Mapping[str, Track]) -> pl.Series:
    """Each host's name, with the part its way is in; null inside a step."""
    names = np.array(hosts.to_list(), object)
    for host, way in ways.items():
        mine = np.flatnonzero(names == host)
        parts = way.part(at[mine])
        names[mine] = [label(host, part) if part >= 0 else None for part in parts.tolist()]
    return pl.Series(names.tolist(), dtype=pl.String)


def guesses(hosts: pl.Series, at: Times, ways: Mapping[str, Track]) -> Floats:
    """The rough estimate of each host at each time; 0 for a host without."""
    names = np.array(hosts.to_list(), object)
    found = np.zeros(len(names), np.float64)
    for host, way in ways.items():
        mine = np.flatnonzero(names == host)
        found[mine] = way.guess(at[mine])
    return found


def cut(
    found: Solution, ways: Mapping[str, Track], every: pl.DataFrame, host: str, gap: int
) -> tuple[int, int]:
    """Between which times the clock stepped, in one gap of its way or in a stretch beside it: an
    estimate may be of few of its stretch's calls."""
    gaps = ways[host].gaps
    low, high = gaps[gap]
    first = max(low - NEAR, gaps[gap - 1][1] if gap else 0)
    last = min([high + NEAR, *(one for one, _ in gaps[gap + 1 : gap + 2])])
    near = told(every.filter(pl.col("at").is_between(first, last)), host)
    if not near.height:
        return low, high
    at = near["at"]
    mine = pl.select(pl.repeat(host, near.height)).to_series()
    other = pl.select(
        pl.when(near["caller"] == host).then(near["callee"]).otherwise(near["caller"])
    )
    early, late = (_offset(found, mine, at, part) for part in (gap, gap + 1))
    return steps.cut(near, host, early, late, guesses(other.to_series(), at.to_numpy(), ways))


def _offset(found: Solution, hosts: pl.Series, at: pl.Series, part: int) -> Floats:
    return found.offset(pl.select(hosts + f"\n{part}").to_series(), at)
