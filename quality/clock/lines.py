"""Lines of clocks, and what is known of a clock where one line gives way to another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby, pairwise
from typing import NamedTuple

import numpy as np
import polars as pl

from quality.clock import steps
from quality.clock.bounds import SLOT
from quality.clock.solve import Floats
from quality.rules import time_zone

WINDOW = 3_600_000_000_000  # ns: an hour of the clock's own time has a line of its own
NEAR = WINDOW // steps.STRETCHES  # ns beside a window's edge in which a step is not told from it
Calls = Callable[[int, int], pl.DataFrame]


class Line(NamedTuple):
    """One host's clock between two times: offset(t) = offset + drift · (t − origin), in ns."""

    host: str
    start: int
    end: int
    origin: int
    offset: float
    drift: float
    error: float

    def at(self, time: int) -> float:
        """The offset at a time."""
        return self.offset + self.drift * (time - self.origin)

    def along(self, times: steps.Times) -> Floats:
        """The offset at many times."""
        return np.asarray(self.offset + self.drift * (times - self.origin), np.float64)


def between(early: Line, late: Line) -> Line:
    """What is known of a clock from one line to the next: either may hold, so the one that moves
    less is taken, and is as unsure as they differ."""
    least = min((early, late), key=lambda line: abs(line.at(early.end)))
    error = abs(late.at(early.end) - early.at(early.end)) + early.error + late.error
    return least._replace(start=early.end, end=late.start, error=error)


def settled(found: Sequence[Line], gathered: pl.DataFrame, near: Calls) -> list[Line]:
    """The lines of all windows, their edges settled: where a host's line ends with its window and
    the next begins elsewhere, it stepped beside the edge, and is cut by the calls that are `near`
    (between two times); where its host has no calls in the next window, it goes on for a slot,
    for the rows of a call that crosses the edge."""
    order = sorted(found, key=lambda line: (line.host, line.start))
    out = list[Line]()
    for host, mine in groupby(order, key=lambda line: line.host):
        lines = [line for line in mine if not time_zone.quarters(line.offset)]
        cut = _stepped(lines, order, near)
        at = gathered.filter((pl.col("caller") == host) | (pl.col("callee") == host))["at"].sort()
        out += [_reaching(line, at) for line in cut]
    out += [line for line in found if time_zone.quarters(line.offset)]
    return sorted(out, key=lambda line: (line.start, line.host))


def _reaching(line: Line, at: pl.Series) -> Line:
    def silent(low: int, high: int) -> bool:
        return not at.is_between(low, high, closed="left").any()

    start, end = line.start, line.end
    if start % WINDOW == 0 and silent(start - WINDOW, start - SLOT):
        start -= SLOT
    if end % WINDOW == 0 and silent(end + SLOT, end + WINDOW):
        end += SLOT
    return line._replace(start=start, end=end)


def _stepped(lines: list[Line], every: Sequence[Line], near: Calls) -> list[Line]:
    """One host's lines; those that meet at a window's edge, but not in their offset, with what is
    known between them."""
    out = lines[:1]
    for early, late in pairwise(lines):
        edge = late.start
        if early.end != edge or edge % WINDOW or abs(early.at(edge) - late.at(edge)) < steps.STEP:
            out.append(late)
            continue
        low, high = _cut(early, late, every, near(edge - NEAR, edge + NEAR))
        out[-1] = out[-1]._replace(end=low)
        after = late._replace(start=high)
        out += [between(out[-1], after), after] if low < high else [after]
    return out


def _cut(early: Line, late: Line, every: Sequence[Line], calls: pl.DataFrame) -> tuple[int, int]:
    host = early.host
    mine = told(calls, host)
    if not mine.height:
        return early.end, early.end
    at = mine["at"].to_numpy()
    other = pl.select(
        pl.when(mine["caller"] == host).then(mine["callee"]).otherwise(mine["caller"])
    )
    others = _guesses(other.to_series(), at, every)
    low, high = steps.cut(mine, host, early.along(at), late.along(at), others)
    low, high = max(low, early.start), min(high, late.end)
    return (low, high) if low <= high else (early.end, early.end)


def told(calls: pl.DataFrame, host: str) -> pl.DataFrame:
    """A host's calls in the order of what its clock showed (`at`)."""
    touches = (pl.col("caller") == host) | (pl.col("callee") == host)
    own = pl.when(pl.col("callee") == host).then(pl.col("at") + pl.col("high")).otherwise("at")
    return calls.filter(touches).with_columns(own.alias("at")).sort("at")


def _guesses(hosts: pl.Series, at: steps.Times, every: Sequence[Line]) -> Floats:
    """The offset of each host at each time; 0 for one without a line."""
    found = np.zeros(len(at), np.float64)
    names = hosts.to_numpy()
    for line in every:
        mine = (names == line.host) & (at >= line.start) & (at < line.end)
        found[mine] = line.along(at[mine])
    return found
