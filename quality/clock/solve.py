"""A line per clock (offset and drift) that satisfies every bound, by linear programming.

maximise the margins inside the bounds, less a penalty on the slack of bounds that cannot hold
(scipy's HiGHS). Clocks held at zero have no line.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

if TYPE_CHECKING:
    from scipy.sparse import coo_array

from quality.clock.doubt import errors

PENALTY = 100.0
DRIFTS = 20_000_000_000  # ns: over a shorter time a clock is taken as only off, not drifting
DRIFT = 500e-6  # no clock that runs is off by more than 500 ppm
Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[Any]


class Solution(NamedTuple):
    """lines      clock → (offset in ns at `origin`, drift in ns per ns)
    error      clock → how far its line may be off while it has bounds (`doubt`), in ns
    """

    origin: int
    lines: dict[str, tuple[float, float]]
    error: dict[str, float]

    def offset(self, clocks: pl.Series, at: pl.Series) -> Floats:
        """What clocks showed too much at some times, in ns."""
        known = [self.lines.get(clock, (0.0, 0.0)) for clock in clocks]
        pairs = np.array(known, np.float64).reshape(-1, 2)
        moments = (at - self.origin).to_numpy().astype(np.float64)
        return np.asarray(pairs[:, 0] + pairs[:, 1] * moments, np.float64)


def solve(
    bounds: pl.DataFrame, free: Collection[str], *, drift: bool, doubt: bool = True
) -> Solution:
    """The lines of the free clocks; every other clock is taken as right. Their errors are told
    where `doubt` is asked for.

    bounds: caller, callee, low, at_low, high, at_high; a pair may have many.
    """
    clocks = sorted(free)
    if not clocks:
        return Solution(0, {}, {})
    touched = bounds.filter(pl.col("caller").is_in(clocks) | pl.col("callee").is_in(clocks))
    origin = int(
        touched.select(pl.concat_list("at_low", "at_high").list.mean().median()).item() or 0
    )
    program = _Program(touched, clocks, origin, drift=drift)
    found = Solution(origin, program.lines(program.run()), {})
    if not doubt:
        return found
    drifts = dict(zip(clocks, program.drifts, strict=True))
    return found._replace(error=errors(_rooms(touched, found), drifts))


class _Program:
    """Variables: offset (µs) and drift (µs over the stretch) per clock, a margin per bound pair, a
    slack per bound."""

    def __init__(
        self, bounds: pl.DataFrame, clocks: Sequence[str], origin: int, *, drift: bool
    ) -> None:
        self.clocks = list(clocks)
        place = {clock: index for index, clock in enumerate(clocks)}
        self.at_high, self.at_low = (
            np.nan_to_num((bounds[f"at_{side}"] - origin).cast(pl.Float64).to_numpy())
            for side in ("high", "low")
        )
        ends = (np.abs(self.at_high), np.abs(self.at_low))
        self.reach = float(max(1.0, *(one.max(initial=1.0) for one in ends)))
        self.caller = np.array([place.get(h, -1) for h in bounds["caller"]], np.int64)
        self.callee = np.array([place.get(h, -1) for h in bounds["callee"]], np.int64)
        self.drifts = [drift and self._lasts(one) > DRIFTS for one in range(len(clocks))]
        self.low = bounds["low"].cast(pl.Float64).to_numpy() / 1e3
        self.high = bounds["high"].cast(pl.Float64).to_numpy() / 1e3

    def _lasts(self, clock: int) -> float:
        """For how long a clock has bounds, ns."""
        mine = (self.caller == clock) | (self.callee == clock)
        at = np.concatenate([self.at_high[mine], self.at_low[mine]])
        return float(np.ptp(at)) if len(at) else 0.0

    def run(self) -> Floats:
        from scipy.optimize import linprog  # half a second, and most days have no wrong clock

        count, clocks = len(self.low), len(self.clocks)
        rows, limits = self._rows()
        width = 2 * clocks + 3 * count
        cost = np.zeros(width)
        cost[2 * clocks : 2 * clocks + count] = -1.0 / max(count, 1)
        cost[2 * clocks + count :] = PENALTY / max(count, 1)
        far = DRIFT * self.reach / 1e3
        bounds: list[tuple[float | None, float | None]] = [(None, None)] * clocks
        bounds += [(-far, far) if drifts else (0.0, 0.0) for drifts in self.drifts]
        half = np.nan_to_num(np.abs(self.high - self.low) / 2)
        bounds += [(0.0, float(one)) for one in half] + [(0.0, None)] * (2 * count)
        found = linprog(cost, A_ub=rows, b_ub=limits, bounds=bounds, method="highs")
        return np.asarray(found.x if found.x is not None else np.zeros(width), np.float64)

    def _rows(self) -> tuple[coo_array, Floats]:
        """θ + margin − slack ≤ high and −θ + margin − slack ≤ −low, for the bounds there are."""
        from scipy.sparse import coo_array

        count, clocks = len(self.low), len(self.clocks)
        every = np.arange(count)
        entries: list[tuple[Numbers, Numbers, Numbers]] = []
        for sign, offset, at in ((1.0, 0, self.at_high), (-1.0, count, self.at_low)):
            for side, owner in ((1.0, self.callee), (-1.0, self.caller)):
                known = owner >= 0
                row = every[known] + offset
                entries.append((row, owner[known], np.full(known.sum(), sign * side)))
                moment = sign * side * at[known] / self.reach
                entries.append((row, owner[known] + clocks, moment))
            entries.append((every + offset, every + 2 * clocks, np.ones(count)))
            slack = every + 2 * clocks + count + offset
            entries.append((every + offset, slack, np.full(count, -1.0)))
        row, column, value = (np.concatenate(part) for part in zip(*entries, strict=True))
        whole = coo_array((value, (row, column)), (2 * count, 2 * clocks + 3 * count)).tocsr()
        limits = np.concatenate([self.high, -self.low])
        finite = np.isfinite(limits)
        return whole[finite], limits[finite]

    def lines(self, found: Floats) -> dict[str, tuple[float, float]]:
        clocks = len(self.clocks)
        return {
            clock: (float(found[i]) * 1e3, float(found[clocks + i]) * 1e3 / self.reach)
            for i, clock in enumerate(self.clocks)
        }


def broken(bounds: pl.DataFrame, found: Solution, host: str) -> float:
    """The most by which lines of a host's clock break a bound, ns."""
    ours = pl.any_horizontal(pl.col("caller", "callee").str.starts_with(f"{host}\n"))
    rooms = _rooms(bounds.filter(ours), found)
    return -min(float(rooms["room"].min() or 0.0), 0.0)  # type: ignore[arg-type]


def _rooms(bounds: pl.DataFrame, found: Solution) -> pl.DataFrame:
    """How much room the lines leave below each upper bound and above each lower one."""
    parts = []
    for side, sign in (("high", 1), ("low", -1)):
        known = bounds.filter(pl.col(side).is_not_null())
        at = known[f"at_{side}"]
        theta = found.offset(known["callee"], at) - found.offset(known["caller"], at)
        room = sign * (known[side].cast(pl.Float64).to_numpy() - theta)
        parts.append(
            known.select("caller", "callee", at=f"at_{side}").with_columns(
                side=pl.lit(side), room=pl.Series(room)
            )
        )
    return pl.concat(parts)
