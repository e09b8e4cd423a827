"""Steps of a clock (an NTP jump): where one line cannot satisfy a window's bounds, the window is
divided, and the cut is laid between the two calls where the one line ends and the other begins.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import polars as pl

from quality.clock.bounds import SLOT
from quality.clock.solve import Floats, Solution

SLACK = 300_000  # ns of contradiction within a window that count as a step
Solve = Callable[[pl.DataFrame], Solution]


class Segment(NamedTuple):
    """A stretch of time (start ≤ t < end, ns), its gathered bounds and their solution."""

    start: int
    end: int
    bounds: pl.DataFrame
    found: Solution

    @property
    def torn(self) -> bool:
        """Whether no line satisfies its bounds."""
        return self.found.slack > SLACK


def divided(whole: Segment, solve: Solve, calls: pl.DataFrame) -> list[Segment]:
    """The segment, or those it falls into, without gaps between them."""
    if not whole.torn:
        return [whole]
    parts = _joined(_halved(whole, solve), solve)
    sound = [part for part in parts if not part.torn]
    if not sound:
        return [whole]
    parts = [part for part in parts if not part.torn or part in (parts[0], parts[-1])]
    for place in range(len(parts) - 1):
        cut = _cut(parts[place], parts[place + 1], calls)
        parts[place] = parts[place]._replace(end=cut)
        parts[place + 1] = parts[place + 1]._replace(start=cut)
    return parts


def _halved(part: Segment, solve: Solve) -> list[Segment]:
    """Halves of halves, until a line fits or a single slot is left."""
    if not part.torn or part.bounds["slot"].n_unique() < 2:
        return [part]
    slots = part.bounds["slot"].unique().sort()
    middle = int(slots[len(slots) // 2]) * SLOT
    early = part.bounds.filter(pl.col("slot") * SLOT < middle)
    late = part.bounds.filter(pl.col("slot") * SLOT >= middle)
    return _halved(Segment(part.start, middle, early, solve(early)), solve) + _halved(
        Segment(middle, part.end, late, solve(late)), solve
    )


def _joined(parts: list[Segment], solve: Solve) -> list[Segment]:
    """Neighbours that one line fits after all, as one."""
    out = parts[:1]
    for part in parts[1:]:
        last = out[-1]
        if not (last.torn or part.torn):
            bounds = pl.concat([last.bounds, part.bounds])
            both = Segment(last.start, part.end, bounds, solve(bounds))
            if not both.torn:
                out[-1] = both
                continue
        out.append(part)
    return out


def _cut(early: Segment, late: Segment, calls: pl.DataFrame) -> int:
    """The time between two lines that leaves the fewest calls against their line."""
    low = int(early.bounds["at"].max()) - SLOT  # type: ignore[arg-type]
    high = int(late.bounds["at"].min()) + SLOT  # type: ignore[arg-type]
    known = list(early.found.lines.keys() | late.found.lines.keys())
    near = calls.filter(
        pl.col("at").is_between(low, high),
        pl.col("caller").is_in(known) | pl.col("callee").is_in(known),
    ).sort("at")
    if not near.height:
        return late.start
    if_early, if_late = (_against(near, part.found) for part in (early, late))
    before = np.concatenate([[0], np.cumsum(if_early)])
    after = np.concatenate([[0], np.cumsum(if_late)])
    cost = before + after[-1] - after
    best = np.flatnonzero(cost == cost.min())
    at = near["at"].to_numpy()
    edges = np.concatenate([[at[0]], at, [at[-1] + 1]])
    return int((int(edges[best[0]]) + int(edges[best[-1] + 1])) // 2)


def _against(calls: pl.DataFrame, found: Solution) -> Floats:
    """1 for each call whose bounds a solution does not keep, else 0."""
    theta = found.offset(calls["callee"], calls["at"]) - found.offset(calls["caller"], calls["at"])
    low = calls["low"].cast(pl.Float64).fill_null(-np.inf).to_numpy() - SLACK
    high = calls["high"].cast(pl.Float64).fill_null(np.inf).to_numpy() + SLACK
    return ((theta < low) | (theta > high)).astype(np.float64)
