"""`clock_skew`: each wrong host's times moved by one line per window.

Windows are an hour of the clock's own time; a step within one starts a new line.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import msgspec
import polars as pl

from quality import marks
from quality.clock import bounds as calls
from quality.clock import hosts, joined, steps
from quality.clock.lines import WINDOW, Line, between, settled
from quality.clock.solve import Solution, solve
from quality.rules import time_zone
from quality.rules.time_unit import DAY, plausible

__all__ = ["WINDOW", "Line", "settled"]  # and what is defined here
NAME = "clock_skew"
LEAST = 50_000  # ns: smaller offsets are left alone
MOST = 43_200_000_000_000  # ns: half a day; what is further off is no running clock
SURE = 5_000_000  # ns: a line known worse than this is less certain
_AUDIT = {
    "row_key": pl.String,
    "rule": pl.String,
    "column_name": pl.String,
    "before": pl.String,
    "after": pl.String,
    "row_count": pl.Int64,
    "confidence": pl.Float64,
    "date": pl.Date,
}


def lines(spans: pl.DataFrame) -> list[Line]:
    """The lines of all hosts whose clock is wrong."""
    every = calls.calls(spans)
    gathered = calls.gather(every)
    found = [line for window, wrong in judged(gathered) for line in lines_of(window, every, wrong)]

    def near(low: int, high: int) -> pl.DataFrame:
        return every.filter(pl.col("at").is_between(low, high))

    return settled(found, gathered, near)


def judged(gathered: pl.DataFrame) -> Iterator[tuple[pl.DataFrame, set[str]]]:
    """The windows in which clocks are wrong, and whose: as the calls of their day tell."""
    for day in _divided(gathered, DAY):
        wrong = hosts.suspects(day)
        for window in _divided(day, WINDOW):
            if here := hosts.within(window, wrong):
                yield window, here


def _divided(gathered: pl.DataFrame, size: int) -> list[pl.DataFrame]:
    """The bounds by stretches of time of one size (ns)."""
    keyed = gathered.with_columns(part=pl.col("at") // size)
    return keyed.partition_by("part", maintain_order=True, include_key=False)


def lines_of(window: pl.DataFrame, every: pl.DataFrame, wrong: set[str]) -> Iterator[Line]:
    """The lines of one window's `wrong` hosts, as few as its bounds allow."""
    start = int(window["at"][0]) // WINDOW * WINDOW
    rough = steps.tracks(window, wrong)
    if not rough:
        return
    ways, found = joined.fewest(window, rough, _held)
    for host, way in ways.items():
        cuts = [joined.cut(found, ways, every, host, gap) for gap in range(len(way.gaps))]
        for line in _parts(host, start, cuts, found):
            if time_zone.quarters(line.offset):
                yield from _zone(line, window)
            elif _off(line):
                yield line
            elif line.error > steps.STEP and abs(line.offset) <= MOST:  # it may have stepped
                yield line._replace(offset=0.0, drift=0.0)


def _parts(
    host: str, start: int, cuts: Sequence[tuple[int, int]], found: Solution
) -> Iterator[Line]:
    """The lines of a host's window, one before each cut and one after the last, and what is known
    between them. A clock that is held has a line at zero."""
    last = None
    begins = [start, *(high for _, high in cuts)]
    ends = [*(low for low, _ in cuts), start + WINDOW]
    for part, (low, high) in enumerate(zip(begins, ends, strict=True)):
        name = joined.label(host, part)
        offset, drift = found.lines.get(name, (0.0, 0.0))
        line = Line(host, low, high, found.origin, offset, drift, found.error.get(name, 0.0))
        if last is not None and last.end < low:
            yield between(last, line)
        yield line
        last = line


def _off(line: Line) -> bool:
    """Whether a line is of a clock that is wrong, and runs."""
    ends = (abs(line.at(line.start)), abs(line.at(line.end)))
    return max(ends) > LEAST and abs(line.offset) <= MOST


def _zone(line: Line, window: pl.DataFrame) -> Iterator[Line]:
    """The line of a source in another zone, if it agrees. The window is of other clocks, so the
    line reaches as much further as its own is off."""
    mine = window.filter((pl.col("caller") == line.host) | (pl.col("callee") == line.host))
    calls_of, against = (int(mine[name].sum()) for name in ("calls", "against"))
    if against < time_zone.AGREED * calls_of:
        return
    offset = time_zone.exact(line.offset, line.error + LEAST)
    by = time_zone.quarters(offset) * time_zone.QUARTER
    steady = offset == by or abs(line.drift) * WINDOW <= line.error
    drift = 0.0 if steady else line.drift
    start, end = line.start + min(by, 0), line.end + max(by, 0)
    yield Line(line.host, start, end, line.origin, offset, drift, line.error)


def _held(bounds: pl.DataFrame, free: set[str]) -> Solution:
    """The solution with every clock held at zero whose line cannot be told from zero."""
    found = solve(bounds, free, drift=True)
    moved = {
        clock for clock, (offset, _) in found.lines.items() if abs(offset) > found.error[clock]
    }
    return found if not moved or moved == free else solve(bounds, moved, drift=True)


def apply(spans: pl.DataFrame) -> pl.DataFrame:
    """The rows with their hosts' clocks corrected."""
    return shift(spans, lines(spans))


def shift(spans: pl.DataFrame, found: list[Line]) -> pl.DataFrame:
    """The rows with their clock's offset taken from start_ns and written beside it."""
    done = [pl.col("repaired").list.contains(name) for name in (NAME, time_zone.NAME)]
    fresh = ~pl.any_horizontal(done)
    can_be = plausible(pl.col("start_ns")).fill_null(value=False)
    asked = spans.filter(fresh & can_be).select("row", calls.owner().alias("host"), at="start_ns")
    moves = corrections(found, asked)
    if not moves.height:
        return spans
    moved = pl.col("by").fill_null(0) != 0
    return (
        spans.join(moves, on="row", how="left", maintain_order="left")
        .with_columns(
            (pl.col("start_ns") - pl.col("by").fill_null(0)).alias("start_ns"),
            pl.coalesce("by", "clock_offset_ns").alias("clock_offset_ns"),
            (pl.col("doubt").fill_null(0) + pl.col("clock_error_ns")).alias("clock_error_ns"),
            marks.repaired(NAME, moved & ~pl.col("zone")),
        )
        .with_columns(marks.repaired(time_zone.NAME, pl.col("zone")))
        .drop("by", "doubt", "zone")
    )


def nanos(ts: pl.Expr) -> pl.Expr:
    """A timestamp as ns since 1970; null where it is too far to count."""
    micros = ts.dt.timestamp("us")
    return pl.when(micros.abs() < (1 << 63) // 1000).then(micros * 1000)


def moved(spans: pl.DataFrame) -> pl.DataFrame:
    """Just shifted rows: whose clock it was (`host`) and what it showed (`at`)."""
    rows = spans.filter(pl.col("clock_offset_ns") != 0)
    return rows.select(
        calls.owner().alias("host"), at=pl.col("start_ns") + pl.col("clock_offset_ns")
    )


def audit(found: list[Line], rows: pl.DataFrame) -> pl.DataFrame:
    """One audit row per line (host and window) with the number of `rows` (host, at) it moved."""
    numbers = pl.DataFrame(
        {
            "place": range(len(found)),
            **{name: [getattr(one, name) for one in found] for name in ("host", "start", "end")},
        },
        schema={"place": pl.Int64, "host": pl.String, "start": pl.Int64, "end": pl.Int64},
    )
    inside = _inside(rows.with_row_index("row"), numbers)
    counts = dict(inside.group_by("place").len().rows())
    made = [
        {
            "row_key": f"{line.host}/{line.start}/{line.end}",
            "rule": time_zone.NAME if time_zone.quarters(line.offset) else NAME,
            "column_name": "start_ns",
            "before": "0",
            "after": msgspec.json.encode(line._asdict()).decode(),
            "row_count": counts.get(place, 0),
            "confidence": 1.0 if line.error < SURE else 0.9,
            "date": datetime.fromtimestamp(line.origin / 1e9, UTC).date(),
        }
        for place, line in enumerate(found)
    ]
    return pl.DataFrame(made, schema=_AUDIT)


def corrections(found: list[Line], asked: pl.DataFrame) -> pl.DataFrame:
    """For rows (row, host, at in ns): offset `by` and half-width `doubt` of the host's clock then,
    in ns, and whether it told another `zone`; rows whose host has no line are left out."""
    schema = dict(zip(Line._fields, (pl.String, *[pl.Int64] * 3, *[pl.Float64] * 3), strict=True))
    known = pl.DataFrame(found, schema=schema, orient="row")
    offset = pl.col("offset") + pl.col("drift") * (pl.col("at") - pl.col("origin"))
    zones = [bool(time_zone.quarters(one.offset)) for one in found]
    inside = _inside(asked, known.with_columns(zone=pl.Series(zones, dtype=pl.Boolean)))
    return inside.select(
        "row",
        offset.round().cast(pl.Int64).alias("by"),
        pl.col("error").round().cast(pl.Int64).alias("doubt"),
        "zone",
    )


def corrected(rows: pl.DataFrame, found: list[Line], asked: pl.DataFrame) -> pl.DataFrame:
    """Rows (row, ts) that tell of events, with the offsets of their clocks taken from `ts`, as
    `asked` for them (row, host, at in ns)."""
    moves = corrections(found, asked)
    if not moves.height:
        return rows
    by = pl.duration(microseconds=pl.col("by").fill_null(0) // 1_000)
    joined = rows.join(moves, on="row", how="left", maintain_order="left")
    return joined.with_columns(pl.col("ts") - by).drop("by", "doubt", "zone")


def _inside(rows: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    """Rows (row, host, at) beside the line they fall on; of lines that overlap, the later."""
    found = rows.join(known, on="host").filter(
        pl.col("at") >= pl.col("start"), pl.col("at") < pl.col("end")
    )
    if not found["row"].is_duplicated().any():
        return found
    return found.sort("start").unique("row", keep="last", maintain_order=True)
