"""A repair of spans from first to last: which steps run over which slices, and what comes of it.

Every step is a function of files in the scratch folder, run by one process per core, or right here
where all rows fit one slice. Nothing that grows with the number of spans is held by this process
but what the rules changed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import TypeVar

import polars as pl

from lake import TABLES, UNPLACED, Lake, empty
from lake.stage import Staged
from lake.workers import Workers, cores
from quality import moves, outcome
from quality.clock import bounds, skew
from quality.outcome import Outcome
from quality.rules import kinship, time_unit, time_zone
from quality.slices import derive, finish, judge, nesting, plan, second
from quality.slices.files import scratch
from quality.suppressions import Suppressed

T = TypeVar("T")
Map = Callable[[Iterable[Callable[[], T]]], Iterator[T]]
Say = Callable[[str], None]
RAW = "raw_spans"
CALLS = 1_000_000  # whose bounds are gathered at once, about
MINUTES = 2_000_000  # rows of which derived tables are made at once, about


@dataclass(frozen=True)
class _Job:
    """What all steps share."""

    folder: Path
    off: Suppressed
    run: Map[object]
    say: Say

    def map(self, about: str, work: Sequence[Callable[[], T]]) -> list[T]:
        """Results in order, told as they come."""
        done = list[T]()
        for result in self.run(work):
            done.append(result)  # type: ignore[arg-type]
            if len(work) > 1:
                self.say(f"spans: {about} {len(done)} of {len(work)}")
        return done


def repaired(
    lake: Lake,
    seen: Collection[date],
    days: Collection[date],
    off: Suppressed,
    say: Say,
    rows: int = plan.ROWS,
) -> Outcome:
    """The outcome for some days, from the raw rows of the days `seen` and those without a day.

    Files of clean rows are written already, and wait for their commit.
    """
    with scratch(lake.folder) as folder:
        slices = plan.slices(_files(lake, seen, folder), rows, cores())
        with _mapper(len(slices)) as run:
            return _outcome(lake, _Job(folder, off, run, say), slices, days)


@contextmanager
def _mapper(slices: int) -> Iterator[Map[object]]:
    if slices < 2:
        yield lambda work: (one() for one in work)
        return
    with Workers(again=True) as workers:
        yield workers.map


def _files(lake: Lake, seen: Collection[date], folder: Path) -> list[tuple[str, date]]:
    days = sorted({*seen, UNPLACED})
    if lake.folder is not None:
        return [(file, day) for day in days for file in lake.files(RAW, {"date": day})]
    found = []
    for day in days:
        rows = lake.scan(RAW).filter(pl.col("date") == day).drop("date").collect()
        if rows.height:
            file = folder / f"raw-{day}.parquet"
            rows.sort("trace_id", "arrival").write_parquet(file, row_group_size=16 * 1024)
            found.append((str(file), day))
    return found


def _outcome(lake: Lake, job: _Job, slices: list[plan.Slice], days: Collection[date]) -> Outcome:
    judged = job.map("slice", [partial(judge.judged, one, job.folder) for one in slices])
    _pull(job, judged)
    batches = second.divide(job.folder, [one.number for one in slices])
    kin = _kin(judged, set(batches))
    hours = job.map(
        "links, batch",
        [partial(second.linked, n, job.folder, job.off, kin[day]) for n, day in enumerate(batches)],
    )
    lines = _lines(job, [*(one.hours for one in judged), *hours])
    fixed = [day for day, off in job.off.days.items() if skew.NAME in off]
    kin = _loose(job, slices, len(batches), lines, fixed, kin)
    timed = job.map(
        "times, batch",
        [
            partial(second.timed, n, job.folder, lines, job.off, kin[day])
            for n, day in enumerate(batches)
        ],
    )
    table = (lake.folder or job.folder) / "spans"
    finished = job.map(
        "written, slice",
        [partial(finish.finished, one, job.folder, table, lines, days, fixed) for one in slices],
    )
    tables = _derived(job, days)
    return _together(lake, timed, finished, tables, table, days)


def _pull(job: _Job, judged: Sequence[judge.Judged]) -> None:
    """Healthy traces that suspect rows name, to the suspects."""
    padded = any(one.short for one in judged) and any(one.padded for one in judged)
    wanted = second.sought(job.folder, [one.number for one in judged])
    if padded or any(len(numbers) for numbers in wanted.values()):
        work = [
            partial(judge.pulled, one.number, job.folder, wanted, padded=padded) for one in judged
        ]
        job.map("looked up, slice", work)


def _kin(judged: Sequence[judge.Judged], days: Collection[date]) -> dict[date, kinship.Kin]:
    edges, grains = (
        pl.concat([getattr(one, name) for one in judged]) for name in ("kin", "grains")
    )
    edges = edges.group_by("day", *kinship.EDGE).agg(pl.col("times").sum()).sort(kinship.EDGE)
    return {
        day: kinship.Kin(_of(edges, day), time_unit.coarseness(_of(grains, day))) for day in days
    }


def _of(rows: pl.DataFrame, day: date) -> pl.DataFrame:
    return rows.filter(pl.col("day") == day).drop("day")


def _loose(
    job: _Job,
    slices: Sequence[plan.Slice],
    batches: int,
    lines: list[skew.Line],
    fixed: Sequence[date],
    kin: Mapping[date, kinship.Kin],
) -> dict[date, kinship.Kin]:
    """With the calls that do not always lie inside their caller, told by all rows of the day
    (`kinship.loose`)."""
    work = [
        *(partial(nesting.of_slice, one.number, job.folder, lines, fixed) for one in slices),
        *(partial(nesting.of_batch, n, job.folder, lines, job.off) for n in range(batches)),
    ]
    found = pl.concat(job.map("calls counted", work))
    return {
        day: known._replace(loose=kinship.rarely_nested(_of(found, day)))
        for day, known in kin.items()
    }


def _lines(job: _Job, hours: Sequence[pl.DataFrame]) -> list[skew.Line]:
    """The lines of all hosts whose clock is wrong, except where that is undone."""
    stretches = _stretches(pl.concat(hours))
    found = job.map(
        "calls, stretch", [partial(gathered, job.folder, low, high) for low, high in stretches]
    )
    if not found:
        return []
    whole = pl.concat(found).sort(bounds.KEYS)
    work = [partial(window, job.folder, one, wrong) for one, wrong in skew.judged(whole)]
    lines = job.map("clocks, hour", work)
    near = partial(judge.near, job.folder)
    settled = skew.settled([line for part in lines for line in part], whole, near)
    return [
        line
        for line in settled
        if (time_zone.NAME if time_zone.quarters(line.offset) else skew.NAME)
        not in job.off.on(_day(line.origin))
    ]


def _day(nanos: int) -> date:
    return date.fromordinal(date(1970, 1, 1).toordinal() + nanos // 86_400_000_000_000)


def _stretches(hours: pl.DataFrame) -> list[tuple[int, int]]:
    """Stretches of time (ns) with about as many calls each, of whole hours."""
    found, held = list[tuple[int, int]](), 0
    counted = hours.group_by("hour").agg(pl.col("calls").sum()).sort("hour")
    for hour, count in counted.rows():
        if not found or held >= CALLS:
            found.append((hour * skew.WINDOW, 0))
            held = 0
        found[-1] = (found[-1][0], (hour + 1) * skew.WINDOW)
        held += count
    return found


def gathered(folder: Path, low: int, high: int) -> pl.DataFrame:
    """The bounds of a stretch of whole hours."""
    return bounds.gather(judge.near(folder, low, high))


def window(folder: Path, found: pl.DataFrame, wrong: set[str]) -> list[skew.Line]:
    """The lines of one window."""
    low, high = int(found["at"].min()), int(found["at"].max())  # type: ignore[arg-type]
    every = judge.near(folder, low - 2 * bounds.SLOT, high + 2 * bounds.SLOT)
    return list(skew.lines_of(found, every, wrong))


def _derived(job: _Job, days: Collection[date]) -> dict[str, pl.DataFrame]:
    counts = derive.minutes(job.folder)
    stretches, held = list[tuple[int, int]](), 0
    for minute in sorted(counts):
        if not stretches or held >= MINUTES:
            stretches.append((minute, 0))
            held = 0
        stretches[-1] = (stretches[-1][0], minute + 1)
        held += counts[minute]
    work = [partial(derive.made, job.folder, low, high) for low, high in stretches]
    parts = job.map("derived, stretch", work)
    return {
        name: pl.concat([part[name] for part in parts]).filter(pl.col("date").is_in(list(days)))
        if parts
        else empty(TABLES[name])
        for name in derive.MAKE
    }


def _together(
    lake: Lake,
    timed: Sequence[second.Timed],
    finished: Sequence[finish.Finished],
    tables: dict[str, pl.DataFrame],
    table: Path,
    days: Collection[date],
) -> Outcome:
    made: list[second.Timed | finish.Finished] = [*timed, *finished]
    shifts = pl.concat([one.moves for one in made])
    clocks = _clocks([one.clocks for one in made])
    audits = [*(one.audit for one in timed), clocks, moves.audit(shifts)]
    staged: dict[date, list[Staged]] = {day: [] for day in days}
    for one in finished:
        for file in one.staged:
            staged[date.fromisoformat(str(file.partition["date"]))].append(file)
    merged = pl.concat([pl.Series("date", [], pl.Date), *(one.merged for one in timed)])
    found = Outcome(
        tables,
        pl.concat(audits, how="diagonal").drop("row", strict=False),
        outcome.counted([one.checks for one in made]),
        shifts,
        _quarantined(lake, [one.quarantined for one in timed]),
        merged=merged,
        staged=staged,
    )
    return found if lake.folder is not None else outcome.loaded(found, "spans", table)


def _clocks(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """The audit of clocks with the rows that all slices moved."""
    whole = pl.concat(parts)
    first = pl.exclude("row_key", "row_count").first()
    return whole.group_by("row_key", maintain_order=True).agg(first, pl.col("row_count").sum())


def _quarantined(lake: Lake, parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Raw rows that cannot be placed, whole."""
    keys = pl.concat(parts) if parts else pl.DataFrame(schema={"row_key": pl.String})
    named = [
        pl.format("{}:{}", "batch", "arrival").alias("row_key"),
        pl.lit("no usable time (time_implausible)").alias("reason"),
    ]
    if not keys.height:
        return empty(TABLES[RAW]).with_columns(*named)
    rows = lake.scan(RAW).filter(pl.col("date").is_in(keys["day"].unique().to_list()))
    rows = rows.with_columns(*named)
    return rows.join(keys.select("row_key").lazy(), on="row_key", how="semi").collect()
