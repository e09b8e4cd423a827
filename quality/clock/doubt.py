"""How far the lines of clocks may be off: the truth is a line too, and may lie anywhere between
the bounds, also aslant.

Found lines leave every bound some room. A line through the truth stays below the upper bounds and
above the lower ones, so at any time it is at most where the line lies that touches a lower bound
on the far side and then an upper one. What is known of the other side's clock widens the room, so
clocks are told one after the other, from the held ones on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

BLOCKS = 24  # of a clock's bounds the tightest of so many stretches count
DRIFT = 1e-3  # two lines differ by no more: no running clock is off by half of it
QUARTZ = 20e-6  # what a clock may drift whose line has none
Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[Any]


class _Room(NamedTuple):
    """One side of a clock's bounds: the times (ns), the room beside its line, and the place of the
    clock on the other side (the last place: one that is held)."""

    at: Floats
    room: Floats
    other: Numbers


def errors(rooms: pl.DataFrame, drifts: Mapping[str, bool]) -> dict[str, float]:
    """The most by which each clock's line may be off while it has bounds, ns; 0 where it has none
    on a side. Where a line breaks a bound, one of them is wrong, and all count as that much wider.

    rooms: caller, callee, side ("high" of the callee's over the caller's clock, or "low"), at, and
    the room (ns) that the lines leave; drifts: the clocks, and whether their lines have a drift.
    """
    clocks = list(drifts)
    place = {clock: number for number, clock in enumerate(clocks)}
    sides = [_sides(rooms, place, clock) for clock in clocks]
    found = np.append(np.full(len(clocks), np.inf), 0.0)
    steep = [DRIFT if drifts[clock] else QUARTZ for clock in clocks]
    for _ in clocks:
        before = found.copy()
        for number, (up, down) in enumerate(sides):
            if len(up.at) and len(down.at):
                found[number] = min(found[number], _most(up, down, before, steep[number]))
        if (found == before).all():
            break
    told = np.where(np.isfinite(found[:-1]), found[:-1], 0.0)
    return dict(zip(clocks, told.tolist(), strict=True))


def _sides(rooms: pl.DataFrame, place: dict[str, int], clock: str) -> tuple[_Room, _Room]:
    """Above and below a clock's line."""
    above = pl.col("side") == "high"
    called = pl.col("callee") == clock
    mine = rooms.filter((pl.col("caller") == clock) | called).with_columns(
        up=above == called, other=pl.when(called).then("caller").otherwise("callee")
    )
    held = len(place)
    parts = (mine.filter("up"), mine.filter(~pl.col("up")))
    broken = -min(float(mine["room"].min() or 0.0), 0.0)  # type: ignore[arg-type]
    up, down = (
        _Room(
            part["at"].cast(pl.Float64).to_numpy(),
            part["room"].to_numpy() + 2 * broken,
            np.array([place.get(one, held) for one in part["other"]], np.int64),
        )
        for part in parts
    )
    return up, down


def _most(up: _Room, down: _Room, known: Floats, steep: float) -> float:
    """How far from its line a clock may be at the ends of its bounds, where that is most."""
    at = np.concatenate([up.at, down.at])
    first, last = float(at.min()), float(at.max())
    high, low = (_tightest(one, known, first, last) for one in (up, down))
    return max(
        _farthest(high, low, end, steep) if one else _farthest(low, high, end, steep)
        for end in (first, last)
        for one in (True, False)
    )


def _tightest(one: _Room, known: Floats, first: float, last: float) -> tuple[Floats, Floats]:
    """(at, room) of the tightest in each stretch, widened by what is not known of the others."""
    room = one.room + known[one.other]
    block = ((one.at - first) / max(last - first, 1.0) * BLOCKS).astype(np.int64)
    order = np.lexsort((room, block))
    _, head = np.unique(block[order], return_index=True)
    chosen = order[head]
    return one.at[chosen], room[chosen]


def _farthest(
    near: tuple[Floats, Floats], far: tuple[Floats, Floats], at: float, steep: float
) -> float:
    """How far a line that stays within `near` on one side and `far` on the other can get on the
    near side at a time."""
    (times, room), (others, beyond) = near, far
    way = np.sign(at - times)[:, None] * (times[:, None] - others[None, :])
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = np.where(way > 0, (room[:, None] + beyond[None, :]) / way, np.inf)
    reach = np.minimum(slope.min(axis=1, initial=np.inf), steep) * np.abs(at - times)
    return float((room + reach).min())
