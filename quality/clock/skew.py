"""`clock_skew`: each wrong host's times moved by one line per window.

Windows are an hour; where one line cannot satisfy a window's bounds, the window is halved, down
to half a minute, so that a step in time starts a new line near where it happened.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import polars as pl

from quality import marks
from quality.clock import bounds as calls
from quality.clock import hosts
from quality.clock.solve import Solution, solve

NAME = "clock_skew"
WINDOW = 3_600_000_000_000  # ns
SHORTEST = 30_000_000_000
SLACK = 300_000  # ns of contradiction inside a window that counts as a step
LEAST = 50_000  # ns: smaller offsets are left alone


class Line(NamedTuple):
    """One host's clock between two times: offset(t) = offset + drift · (t − origin), in ns."""

    host: str
    start: int
    end: int
    origin: int
    offset: float
    drift: float
    error: float


def lines(spans: pl.DataFrame) -> list[Line]:
    """The lines of all hosts whose clock is wrong."""
    gathered = calls.gather(calls.calls(spans))
    if not gathered.height:
        return []
    wrong = hosts.suspects(gathered)
    if not wrong:
        return []
    return [
        line for window in _windows(gathered) for line in _solve(window, *_edges(window), wrong)
    ]


def _windows(gathered: pl.DataFrame) -> Iterator[pl.DataFrame]:
    keyed = gathered.with_columns(window=pl.col("at") // WINDOW)
    for part in keyed.partition_by("window", maintain_order=True):
        yield part.drop("window")


def _edges(window: pl.DataFrame) -> tuple[int, int]:
    start = int(window["at"][0]) // WINDOW * WINDOW
    return start, start + WINDOW


def _solve(window: pl.DataFrame, start: int, end: int, wrong: set[str]) -> list[Line]:
    """One line per host, or those of the two halves where one line contradicts its bounds."""
    seen = set(window["caller"]) | set(window["callee"])
    free = wrong & seen
    if not free:
        return []
    found = _freed(window, free)
    low, high = int(window["at"].min()), int(window["at"].max())  # type: ignore[arg-type]
    middle = (low + high) // 2
    if found.slack > SLACK and high - low > SHORTEST:
        early, late = window.filter(pl.col("at") <= middle), window.filter(pl.col("at") > middle)
        if early.height and late.height:
            return _solve(early, start, middle, wrong) + _solve(late, middle, end, wrong)
    return [
        Line(host, start, end, found.origin, offset, drift, found.error[host])
        for host, (offset, drift) in found.lines.items()
        if abs(offset) > LEAST
    ]


def _freed(window: pl.DataFrame, free: set[str]) -> Solution:
    """The solution; where bounds still contradict, neighbours are freed too if that helps."""
    reach = int(window["at"].max()) - int(window["at"].min())  # type: ignore[arg-type]
    drift = reach > 120_000_000_000
    found = solve(window, free, drift=drift)
    for _ in range(3):
        more = hosts.neighbours(window, free)
        if found.slack <= SLACK or not more:
            break
        wider = solve(window, free | more, drift=drift)
        if wider.slack > found.slack / 2:
            break
        free, found = free | more, wider
    return _held(window, free, found, drift=drift)


def _held(window: pl.DataFrame, free: set[str], found: Solution, *, drift: bool) -> Solution:
    """The solution again with every host held at zero whose line cannot be told from zero."""
    moved = {host for host, (offset, _) in found.lines.items() if abs(offset) > found.error[host]}
    if not moved or moved == free:
        return found
    narrower = solve(window, moved, drift=drift)
    return narrower if narrower.slack <= max(found.slack, SLACK) else found


def shift(spans: pl.DataFrame, found: list[Line]) -> pl.DataFrame:
    """The rows with their clock's offset taken from start_ns and written beside it."""
    fresh = ~pl.col("repaired").list.contains(NAME)
    asked = spans.filter(fresh).select("row", calls.owner().alias("host"), at="start_ns")
    moves = corrections(found, asked)
    if not moves.height:
        return spans
    moved = pl.col("by").is_not_null()
    return (
        spans.join(moves, on="row", how="left", maintain_order="left")
        .with_columns(
            (pl.col("start_ns") - pl.col("by").fill_null(0)).alias("start_ns"),
            pl.coalesce("by", "clock_offset_ns").alias("clock_offset_ns"),
            pl.coalesce("doubt", "clock_error_ns").alias("clock_error_ns"),
            marks.repaired(NAME, moved),
        )
        .drop("by", "doubt")
    )


def corrections(found: list[Line], asked: pl.DataFrame) -> pl.DataFrame:
    """For rows (row, host, at in ns): offset `by` and half-width `doubt` of the host's clock then,
    in ns; rows whose host has no line are left out."""
    schema = dict(zip(Line._fields, (pl.String, *[pl.Int64] * 3, *[pl.Float64] * 3), strict=True))
    known = pl.DataFrame(found, schema=schema, orient="row")
    offset = pl.col("offset") + pl.col("drift") * (pl.col("at") - pl.col("origin"))
    return (
        asked.join(known, on="host")
        .filter(pl.col("at") >= pl.col("start"), pl.col("at") < pl.col("end"))
        .select(
            "row",
            offset.round().cast(pl.Int64).alias("by"),
            pl.col("error").round().cast(pl.Int64).alias("doubt"),
        )
    )
