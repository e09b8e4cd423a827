"""Days of exemplars mended where they lie, beside an ingest that appends to them.

The audit is written before the ids change, with what was audited before, and again when they have
changed: killed in between, every id as received is still told. The last commit, of `repairs`,
carries the day's stamp.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import polars as pl

from lake import UNPLACED, Lake
from lake.files import rewrite
from lake.maintain import kept_from
from lake.stage import identity
from quality import exemplars, lookups, outcome, suppressions, versions, write
from quality.outcome import Outcome

NAME = "exemplars"
DAY = timedelta(days=1)


@dataclass(frozen=True)
class _Stage:
    clean: str
    versions: Mapping[str, int]


STAGE = _Stage(NAME, exemplars.VERSIONS)


@dataclass(frozen=True)
class Made:
    """A day that was looked at: its rows, and how many each rule changed."""

    date: date
    rows: int
    rules: dict[str, int]


def follow(
    run: write.Run,
    days: Sequence[date] | None,
    *,
    upgrade: bool = False,
    say: Callable[[str], None] | None = None,
) -> list[Made]:
    """Mend the days whose rows, spans or suppressions changed; with `upgrade` those too that older
    rules mended."""
    made = []
    for day in _dirty(run.lake, days, upgrade=upgrade):
        if say:
            say(f"{NAME} {day}")
        made.append(_day(run, day))
    return made


def _dirty(lake: Lake, days: Collection[date] | None, *, upgrade: bool) -> list[date]:
    held = [day for day in lake.days(NAME) if day != UNPLACED and day >= _first(lake)]
    asked = [day for day in held if days is None or day in days]
    if not asked:
        return []
    marks = lake.transactions("repairs", [app for day in asked for app in _apps(day)])
    fresh = {
        day: stamp(one, identity(lake.files(NAME, {"date": day})))
        for day, one in basis(lake, asked).items()
    }
    return [
        day
        for day in asked
        if marks[_apps(day)[0]] != fresh[day] or (upgrade and marks[_apps(day)[1]] != _NUMBER)
    ]


def _first(lake: Lake) -> date:
    """The first day whose spans, and its neighbours', are still there as far as they were kept."""
    spans = kept_from(lake, "spans")
    return max(kept_from(lake, NAME), spans + DAY if spans > date.min else spans)


def _apps(day: date) -> tuple[str, str]:
    """The app transactions of `repairs` that keep a day's stamp and the versions of its rules."""
    return f"repair/{NAME}/{day}", f"rules/{NAME}/{day}"


def _near(day: date) -> list[date]:
    return [day - DAY, day, day + DAY]


def basis(lake: Lake, days: Iterable[date]) -> dict[date, str]:
    """What days are judged by beside their rows: the spans of these days, and what is undone."""
    days, undone = list(days), suppressions.of(lake)
    apps = {one: (write.app(one), versions.app(one)) for day in days for one in _near(day)}
    spans = lake.transactions("spans", [name for both in apps.values() for name in both])
    return {
        day: repr(
            (
                [spans[name] for one in _near(day) for name in apps[one]],
                sorted(undone.on(day) & exemplars.VERSIONS.keys()),
            )
        )
        for day in days
    }


def stamp(judged_by: str, rows: int) -> int:
    """A basis and the identity of a day's files as one number."""
    digest = hashlib.blake2b(f"{judged_by}\n{rows}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def _day(run: write.Run, day: date) -> Made:
    lake = run.lake
    judged_by, version = basis(lake, [day])[day], lake.version(NAME)
    rows = exemplars.keyed(lake.scan(NAME, version).filter(pl.col("date") == day).collect())
    part: dict[str, str | date] = {"date": day, "table_name": NAME}
    old = lake.scan("repairs").filter(date=day, table_name=NAME).collect()
    found = _mended(lake, day, exemplars.received(rows, old))
    new = write.audited(run, STAGE, found.audit.with_columns(date=pl.lit(day)), version)
    left = old.join(new, on=["row_key", "rule", "column_name"], how="anti")
    if not _same(both := pl.concat([new, left]), old):
        lake.replace("repairs", part, both)
    rewrite(lake, NAME, {"date": day}, lambda held: exemplars.replaced(held, found.rows))
    write.scores(run, STAGE, day, _outcome(rows, found))
    files, marks = identity(lake.files(NAME, {"date": day})), dict[str, int]()
    if _count(lake, day) == rows.height:  # else some came meanwhile: the next run sees to them
        marks = dict(zip(_apps(day), (stamp(judged_by, files), _NUMBER), strict=True))
    lake.replace("repairs", part, new, marks)
    rules = new.group_by("rule").agg(pl.col("row_count").sum())
    return Made(day, rows.height, dict(rules.rows()))


_NUMBER = versions.number(exemplars.VERSIONS)


def _mended(lake: Lake, day: date, rows: pl.DataFrame) -> exemplars.Repaired:
    spans = lookups.named_spans(lake, _near(day), rows)
    wanted = rows["series"].unique().implode()
    series = lake.scan("series").filter(pl.col("series").is_in(wanted)).collect()
    return exemplars.repair(rows, exemplars.services(series), spans, suppressions.of(lake))


def _same(one: pl.DataFrame, other: pl.DataFrame) -> bool:
    told = ["row_key", "rule", "column_name", "before", "after"]
    return one.select(told).sort(told).equals(other.select(told).sort(told))


def _count(lake: Lake, day: date) -> int:
    return int(lake.scan(NAME).filter(pl.col("date") == day).select(pl.len()).collect().item())


def _outcome(rows: pl.DataFrame, found: exemplars.Repaired) -> Outcome:
    """What the scorecard counts: exemplars are of no service."""
    marked = found.rows.with_columns(pl.lit(None, pl.String).alias("service"))
    none = pl.DataFrame()
    return Outcome({NAME: rows}, none, outcome.checks(marked), none, none)
