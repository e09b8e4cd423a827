"""A line per host (offset and drift) that satisfies every bound, by linear programming.

maximise the margins inside the bounds, less a penalty on the slack of bounds that cannot hold
(scipy's HiGHS). Hosts held at zero have no line.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.optimize import linprog
from scipy.sparse import coo_array

PENALTY = 100.0
DRIFT = 500e-6  # no clock that runs is off by more than 500 ppm
Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[Any]


class Solution(NamedTuple):
    """lines      host → (offset in ns at `origin`, drift in ns per ns)
    error      host → half-width: how far its line may be off, in ns
    slack      ns of the worst bound that does not hold
    """

    origin: int
    lines: dict[str, tuple[float, float]]
    error: dict[str, float]
    slack: float

    def offset(self, hosts: pl.Series, at: pl.Series) -> Floats:
        """What the clocks of hosts showed too much at some times, in ns."""
        known = [self.lines.get(host, (0.0, 0.0)) for host in hosts]
        pairs = np.array(known, np.float64).reshape(-1, 2)
        moments = (at - self.origin).to_numpy().astype(np.float64)
        return np.asarray(pairs[:, 0] + pairs[:, 1] * moments, np.float64)


def solve(
    bounds: pl.DataFrame, free: Collection[str], *, drift: bool, judge: Collection[str] = ()
) -> Solution:
    """The lines of the free hosts; every other host's clock is taken as right.

    The slack is that of all bounds of the free hosts and of those in `judge`.
    """
    known = [*free, *judge]
    touched = bounds.filter(pl.col("caller").is_in(known) | pl.col("callee").is_in(known))
    origin = int(touched["at"].median() or 0)  # type: ignore[arg-type]
    hosts = sorted(free)
    program = _Program(touched, hosts, origin, drift=drift)
    found = program.run()
    found_lines = Solution(origin, program.lines(found), {}, program.slack(found))
    return found_lines._replace(error=_errors(touched, hosts, found_lines))


class _Program:
    """Variables: offset (µs) and drift (µs over the stretch) per host, a margin per bound pair, a
    slack per bound."""

    def __init__(
        self, bounds: pl.DataFrame, hosts: Sequence[str], origin: int, *, drift: bool
    ) -> None:
        self.hosts, self.drift = list(hosts), drift
        self.place = {host: index for index, host in enumerate(hosts)}
        at = (bounds["at"].to_numpy() - origin).astype(np.float64)
        self.reach = float(max(np.abs(at).max(initial=1.0), 1.0))
        self.at = at / self.reach
        self.caller = np.array([self.place.get(h, -1) for h in bounds["caller"]])
        self.callee = np.array([self.place.get(h, -1) for h in bounds["callee"]])
        self.low = bounds["low"].cast(pl.Float64).to_numpy() / 1e3
        self.high = bounds["high"].cast(pl.Float64).to_numpy() / 1e3

    def run(self) -> Floats:
        count, hosts = len(self.at), len(self.hosts)
        rows, limits = self._rows()
        width = 2 * hosts + 3 * count
        cost = np.zeros(width)
        cost[2 * hosts : 2 * hosts + count] = -1.0 / max(count, 1)
        cost[2 * hosts + count :] = PENALTY / max(count, 1)
        far = DRIFT * self.reach / 1e3
        bounds: list[tuple[float | None, float | None]] = [(None, None)] * hosts
        bounds += [(-far, far) if self.drift else (0.0, 0.0)] * hosts
        half = np.where(np.isfinite(self.high - self.low), np.abs(self.high - self.low) / 2, 0.0)
        bounds += [(0.0, float(one)) for one in half] + [(0.0, None)] * (2 * count)
        found = linprog(cost, A_ub=rows, b_ub=limits, bounds=bounds, method="highs")
        return np.asarray(found.x if found.x is not None else np.zeros(width), np.float64)

    def _rows(self) -> tuple[coo_array, Floats]:
        """θ + margin − slack ≤ high and −θ + margin − slack ≤ −low, for finite bounds."""
        count, hosts = len(self.at), len(self.hosts)
        every = np.arange(count)
        entries: list[tuple[Numbers, Numbers, Numbers]] = []
        for sign, offset in ((1.0, 0), (-1.0, count)):
            for side, owner in ((1.0, self.callee), (-1.0, self.caller)):
                known = owner >= 0
                row = every[known] + offset
                entries.append((row, owner[known], np.full(known.sum(), sign * side)))
                entries.append((row, owner[known] + hosts, sign * side * self.at[known]))
            entries.append((every + offset, every + 2 * hosts, np.ones(count)))
            slack = every + 2 * hosts + count + offset
            entries.append((every + offset, slack, np.full(count, -1.0)))
        row, column, value = (np.concatenate(part) for part in zip(*entries, strict=True))
        whole = coo_array((value, (row, column)), (2 * count, 2 * hosts + 3 * count)).tocsr()
        limits = np.concatenate([self.high, -self.low])
        finite = np.isfinite(limits)
        return whole[finite], limits[finite]

    def lines(self, found: Floats) -> dict[str, tuple[float, float]]:
        hosts = len(self.hosts)
        return {
            host: (float(found[i]) * 1e3, float(found[hosts + i]) * 1e3 / self.reach)
            for i, host in enumerate(self.hosts)
        }

    def slack(self, found: Floats) -> float:
        count, hosts = len(self.at), len(self.hosts)
        return float(found[2 * hosts + count :].max(initial=0.0)) * 1e3


def _errors(bounds: pl.DataFrame, hosts: Sequence[str], found: Solution) -> dict[str, float]:
    """Half the width that a host's tightest bounds leave around its line, or the most by which
    the line breaks one of them."""
    theta = pl.Series(
        found.offset(bounds["callee"], bounds["at"]) - found.offset(bounds["caller"], bounds["at"])
    )
    room = bounds.with_columns(
        above=pl.col("high").cast(pl.Float64) - theta, below=theta - pl.col("low").cast(pl.Float64)
    )
    errors = {}
    for host in hosts:
        mine = room.filter((pl.col("caller") == host) | (pl.col("callee") == host))
        sides = [mine["above"].min(), mine["below"].min()]
        known = [float(side) for side in sides if side is not None]  # type: ignore[arg-type]
        half = sum(max(side, 0.0) for side in known) / 2 if len(known) == 2 else 0.0
        errors[host] = max([half, *(-side for side in known)])
    return errors
