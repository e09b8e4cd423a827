"""Steps of clocks (NTP jumps), found as change points.

Each clock is estimated roughly, constant over short stretches, all clocks of a stretch jointly.
Where an estimate leaves the way its neighbours go, the clock stepped: a new line starts there. The
cut is laid between the two calls where the one line ends and the other begins.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from quality.clock.bounds import SLOT
from quality.clock.hosts import anchored
from quality.clock.solve import Floats, solve

STRETCHES = 30  # into which a window is divided at most
ENOUGH = 10  # calls of every clock a stretch should hold
STEP = 1_000_000  # ns: a smaller jump is not told from noise
BOUNDS = 2_000  # of pairs that are solved in one program, about
ODD = 6.0  # times the usual change from one stretch to the next
Times = npt.NDArray[np.int64]


class Track(NamedTuple):
    """One clock's rough estimates: at (ns, ascending), offset (ns); and the gaps (from, to) in
    which it stepped."""

    at: Times
    offset: Floats
    gaps: list[tuple[int, int]]

    def part(self, at: Times) -> Times:
        """Which part of the track times are in; -1 inside a gap."""
        part = np.searchsorted(np.array([high for _, high in self.gaps], np.int64), at, "right")
        for low, high in self.gaps:
            part[(at > low) & (at < high)] = -1
        return part

    def without(self, gap: int) -> Track:
        """The same way, of one part on both sides of a gap."""
        return self._replace(gaps=self.gaps[:gap] + self.gaps[gap + 1 :])

    def guess(self, at: Times) -> Floats:
        """The offset between estimates of one part."""
        part, mine = self.part(at), self.part(self.at)
        found = np.interp(at, self.at, self.offset)
        for number in np.unique(part[part >= 0]):
            here = mine == number
            if here.any():
                asked = part == number
                found[asked] = np.interp(at[asked], self.at[here], self.offset[here])
        return found


def tracks(bounds: pl.DataFrame, free: Collection[str]) -> dict[str, Track]:
    """The rough way of every free clock through a window; clocks that no bounds tie to a right one
    have none."""
    low, high = int(bounds["at"].min()), int(bounds["at"].max()) + 1  # type: ignore[arg-type]
    calls = int(bounds["calls"].sum())
    number = max(1, min(STRETCHES, calls // (ENOUGH * max(len(free), 1)), (high - low) // SLOT))
    length = -(-(high - low) // number)
    found: dict[str, list[tuple[int, float]]] = {}
    stretched = bounds.with_columns(stretch=(pl.col("at") - low) // length)
    tight = stretched.group_by("stretch", "caller", "callee").agg(
        pl.col("low").max(),
        pl.col("at_low").mean().cast(pl.Int64),
        pl.col("high").min(),
        pl.col("at_high").mean().cast(pl.Int64),
    )
    middle = dict(stretched.group_by("stretch").agg(pl.col("at").mean().cast(pl.Int64)).iter_rows())
    for part in _programs(tight.sort("stretch", "caller", "callee")):
        for clock, stretch, offset in _estimates(part, free):
            found.setdefault(clock, []).append((middle[stretch], offset))
    return {clock: _track(sorted(points), length) for clock, points in sorted(found.items())}


def _programs(tight: pl.DataFrame) -> list[pl.DataFrame]:
    """Whole stretches, as many as are worth solving at once: a small program takes no longer than
    its setting up, a large one longer than its size."""
    before = pl.int_range(pl.len()).min().over("stretch")
    whole = tight.with_columns(program=before // BOUNDS)
    return whole.partition_by("program", include_key=False, maintain_order=True)


def _estimates(tight: pl.DataFrame, free: Collection[str]) -> list[tuple[str, int, float]]:
    """Rough offsets (clock, stretch, offset) of the free clocks that a stretch's tightest bounds
    tie to a right one; in each stretch they are clocks of their own."""
    own = [
        pl.when(pl.col(side).is_in(list(free)))
        .then(pl.format("{}\n{}", side, "stretch"))
        .otherwise(side)
        .alias(side)
        for side in ("caller", "callee")
    ]
    tight = tight.with_columns(own)
    names = {*tight["caller"], *tight["callee"]}
    mine = {name for name in names if name.rpartition("\n")[0] in free}
    tied = anchored(tight, mine)
    if not tied:
        return []
    loose = list(mine - tied)
    tight = tight.filter(~pl.col("caller").is_in(loose), ~pl.col("callee").is_in(loose))
    solved = solve(tight, tied, drift=False, doubt=False)
    parts = [(name.rpartition("\n"), offset) for name, (offset, _) in solved.lines.items()]
    return [(clock, int(stretch), offset) for (clock, _, stretch), offset in parts]


def _track(points: list[tuple[int, float]], length: int) -> Track:
    """The estimates, without those inside a step or beside the way of all others."""
    at = np.array([one for one, _ in points], np.int64)
    offset = np.array([one for _, one in points], np.float64)
    if len(at) < 3:
        jumped = np.flatnonzero(np.abs(np.diff(offset)) > STEP * 10)
        return Track(at, offset, [(int(at[i]), int(at[i + 1])) for i in jumped])
    time = np.diff(at) / length
    change = np.diff(offset)
    usual = float(np.median(change / time))
    off = np.abs(change - usual * time)
    limit = max(STEP, ODD * float(np.median(off)))
    gaps: list[tuple[int, int]] = []
    keep = np.ones(len(at), bool)
    place = 0
    while place < len(change):
        if off[place] <= limit:
            place += 1
            continue
        last = place
        while last + 1 < len(change) and off[last + 1] > limit and last - place < 2:
            last += 1
        keep[place + 1 : last + 1] = False  # estimates in the middle of it
        way = offset[last + 1] - offset[place] - usual * (at[last + 1] - at[place]) / length
        if abs(way) > limit:
            gaps.append((int(at[place]), int(at[last + 1])))
        place = last + 1
    return Track(at[keep], offset[keep], gaps)


def cut(
    calls: pl.DataFrame, host: str, early: Floats, late: Floats, others: Floats
) -> tuple[int, int]:
    """The times between which one line of a clock gives way to another, so that the fewest calls
    are against their line.

    calls: those of the host in the gap, by time; early and late: what the two lines say of the
    host's clock at each, others: what is said of the other side's.
    """
    callee = (calls["callee"] == host).to_numpy()
    low = calls["low"].cast(pl.Float64).fill_null(-np.inf).to_numpy() - STEP / 4
    high = calls["high"].cast(pl.Float64).fill_null(np.inf).to_numpy() + STEP / 4

    def against(line: Floats) -> Floats:
        theta = np.where(callee, line - others, others - line)
        return np.concatenate([[0.0], np.cumsum((theta < low) | (theta > high))])

    before, after = against(early), against(late)
    cost = before + after[-1] - after
    best = np.flatnonzero(cost == cost.min())
    at = calls["at"].to_numpy()
    edges = np.concatenate([[at[0]], at, [at[-1] + 1]])
    return int(edges[best[0]]), int(edges[best[-1] + 1])
