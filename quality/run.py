"""`repair`: raw tables into clean ones, only the days that changed, each in one commit.

A day's stamp is a hash of what it is made from. It is kept as an app transaction of the tables
the day is written to, so a run that was killed leaves days whose stamp does not match, and the
next run makes exactly those.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from lake import UNPLACED, Lake
from lake.maintain import kept_from
from lake.stage import identity
from quality import expectations, in_place, lookups, moves, suppressions, versions, write
from quality.expectations import Expectation, Refusal
from quality.moves import Pair
from quality.outcome import Outcome
from quality.stages import STAGES, Stage

DAY = timedelta(days=1)
Say = Callable[[str], None]
_REFERRING = ("errors", "logs")  # their ids and clocks are judged by spans
ROWS = 6_000_000  # raw rows computed at once, unless a single day has more


@dataclass
class Summary:
    """What a run did: the days it made, rows written per clean table, changes per rule, rows in
    quarantine, and the days an expectation refused, which are as they were."""

    days: set[date] = field(default_factory=set)
    rows: dict[str, int] = field(default_factory=dict)
    rules: dict[str, int] = field(default_factory=dict)
    quarantined: int = 0
    refused: list[Refusal] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON, the busiest rule first."""
        order = sorted(self.rules.items(), key=lambda item: (-item[1], item[0]))
        return {
            "days": [str(day) for day in sorted(self.days)],
            "rows": self.rows,
            "rules": dict(order),
            "quarantined": self.quarantined,
            "refused": [vars(one) for one in self.refused],
        }


def repair(
    lake: Lake,
    days: Sequence[date] | None = None,
    progress: Callable[[str], None] | None = None,
    now: datetime | None = None,
    *,
    upgrade: bool = False,
    expected: Sequence[Expectation] = (),
) -> Summary:
    """Make the clean tables follow the raw ones; `days` limits the run to some days and those
    they cannot be told apart from. A second run without new raw rows writes nothing. A day that
    nothing touched stays as its rules made it, unless `upgrade` asks for the rules of today.
    Rows and days that violate what is `expected` are kept out.
    """
    summary = Summary()
    moment = now or datetime.now(UTC)
    run = write.Run(lake, f"repair-{moment:%Y%m%dT%H%M%S.%f}", moment)
    texts: list[pl.DataFrame] = []
    for stage in STAGES:
        rules = {**stage.versions, **expectations.versions(expected, stage.clean)}
        todo = _dirty(lake, stage, days, rules if upgrade else None)
        sizes = _sizes(lake, stage) if todo else {}
        alone = False
        while todo:
            chunk = {min(todo)} if alone else _chunk(sorted(todo), sizes)
            if progress:
                progress(f"{stage.clean} {min(chunk)} … {max(chunk)}")
            made, outcome, before = _settled(lake, stage, chunk, progress or _quiet)
            folder = Path(lake.root) / stage.clean
            outcome = expectations.enforce(stage, outcome, expected, folder)
            refused = expectations.refusals(stage, outcome, expected, made, folder)
            if refused:
                discard(lake, stage.clean, outcome)
            if refused and len(chunk) > 1:
                alone = True  # a day that is refused must not hold up those it was made with
                continue
            todo -= made
            summary.refused += refused
            if refused:
                continue
            _commit(run, stage, before, outcome, summary, rules)
            if outcome.texts is not None:
                texts.append(outcome.texts)
    if texts:
        lookups.update_templates(lake, pl.concat(texts))
    for one in in_place.follow(run, days, upgrade=upgrade, say=progress):
        _noted(summary, one)
    return summary


def _noted(summary: Summary, made: in_place.Made) -> None:
    summary.days.add(made.date)
    summary.rows[in_place.NAME] = summary.rows.get(in_place.NAME, 0) + made.rows
    for rule, count in made.rules.items():
        summary.rules[rule] = summary.rules.get(rule, 0) + count


def _quiet(_text: str) -> None:
    """No one listens."""


def basis(lake: Lake, stage: Stage, days: Iterable[date]) -> dict[date, list[str]]:
    """What each day is made from: raw files of the day, its neighbours and the unplaced rows, the
    rules undone for them, and for logs and errors the spans of these days, with their clocks, as
    the stamps of what made them. Looked at before the rows are read, so that what comes meanwhile
    makes the day again.
    """
    days = sorted(days)
    files = {
        day: identity(lake.files(stage.raw, {"date": day})) for day in {*_around(days), UNPLACED}
    }
    undone = suppressions.of(lake)
    apps = {day: (write.app(day), versions.app(day)) for day in _around(days)}
    named = [name for both in apps.values() for name in both] if stage.clean in _REFERRING else []
    spans = lake.transactions("spans", named)
    found = {}
    for day in days:
        parts = [str(files[other]) for other in (*_around([day]), UNPLACED)]
        off = (undone.on(other) & stage.versions.keys() for other in (*_around([day]), UNPLACED))
        parts += [repr(sorted(names)) for names in off]
        if spans:
            parts.append(repr([spans[name] for other in _around([day]) for name in apps[other]]))
        found[day] = parts
    return found


def stamps(
    lake: Lake,
    stage: Stage,
    parts: Mapping[date, Sequence[str]],
    fresh: Mapping[Pair, int] | None = None,
) -> dict[date, int]:
    """The `basis` of each day and the rows moved from or to it, as a number. `fresh` are digests of
    moves about to be written.
    """
    pairs = {day: moves.pairs_of([day]) for day in parts}
    apps = {pair: moves.app(stage.clean, pair) for found in pairs.values() for pair in found}
    held = lake.transactions("repairs", apps.values())
    found = {}
    for day, lines in parts.items():
        known = [(pair, (fresh or {}).get(pair, max(held[apps[pair]], 0))) for pair in pairs[day]]
        text = "\n".join([*lines, repr([one for one in known if one[1]])])
        digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
        found[day] = int.from_bytes(digest, "big") >> 1
    return found


def _dirty(
    lake: Lake, stage: Stage, days: Sequence[date] | None, rules: Mapping[str, int] | None = None
) -> set[date]:
    """The days whose stamp differs from what any of their tables carries; with `rules` those too
    that were made by other versions of them."""
    raw = set(lake.days(stage.raw))
    every = raw | set(lake.days(stage.clean))
    if UNPLACED in raw:
        rows = lake.scan(stage.raw).filter(pl.col("date") == UNPLACED).collect()
        every |= set(stage.days(rows).drop_nulls().to_list())
    every = {day for day in every if day == UNPLACED or day >= _settled_from(lake, stage)}
    if every != {UNPLACED}:
        every -= {UNPLACED}  # else there are but rows without a day: they go to quarantine
    asked = sorted(every if days is None else every & set(days))
    fresh = stamps(lake, stage, basis(lake, stage, asked))
    apps = {day: write.app(day) for day in asked}
    dirty = set[date]()
    for table in (stage.clean, *stage.derived):
        held = lake.transactions(table, apps.values())
        dirty |= {day for day in asked if held[apps[day]] != fresh[day]}
    if rules is not None:
        dirty |= set(versions.behind(lake, stage, asked, rules))
    return dirty


def _settled_from(lake: Lake, stage: Stage) -> date:
    """The first day that can be made again: those before it have raw rows that expired, or a
    neighbour whose raw rows did, or are no longer wanted."""
    raw = kept_from(lake, stage.raw)
    after = raw + DAY if raw > date.min else raw
    return max(after, *(kept_from(lake, table) for table in (stage.clean, *stage.derived)))


def _sizes(lake: Lake, stage: Stage) -> dict[date, int]:
    return dict(lake.scan(stage.raw).group_by("date").len().collect().rows())


def _chunk(todo: Sequence[date], sizes: Mapping[date, int]) -> set[date]:
    """The first days that are worth computing together: they see each other's rows."""
    chunk, rows = {todo[0]}, sizes.get(todo[0], 0)
    for day in todo[1:]:
        rows += sizes.get(day, 0)
        if day - max(chunk) > 2 * DAY or rows > ROWS:
            break
        chunk.add(day)
    return chunk


def _around(days: Iterable[date]) -> list[date]:
    return sorted({other for day in days for other in (day - DAY, day, day + DAY)})


@dataclass(frozen=True)
class _Seen:
    """What the raw table was before its rows were read: its version, and the `basis` of days."""

    version: int
    parts: Mapping[date, Sequence[str]]


def _settled(
    lake: Lake, stage: Stage, chunk: set[date], say: Say
) -> tuple[set[date], Outcome, _Seen]:
    """The outcome for the days of a chunk, and for others that share moved rows with them."""
    unplaced = UNPLACED in lake.days(stage.raw)
    while True:
        before = _Seen(lake.version(stage.raw), basis(lake, stage, chunk))
        seen = _around(chunk)
        outcome = stage.work(lake, seen, chunk, say)
        far = outcome.moves["after"].unique().to_list()
        days = None if unplaced else {*seen, *far}
        old = moves.recorded(lake, stage.clean, days)
        more = moves.disputed(outcome.moves, old, seen, chunk)
        more = {day for day in more if day >= _settled_from(lake, stage)}
        if not more:
            return chunk, outcome, before
        discard(lake, stage.clean, outcome)
        chunk = chunk | more


def discard(lake: Lake, table: str, outcome: Outcome) -> None:
    """Take back files that were written for a commit that will not be."""
    for files in (outcome.staged or {}).values():
        for one in files:
            (Path(lake.root) / table / one.path).unlink(missing_ok=True)


def _commit(
    run: write.Run,
    stage: Stage,
    before: _Seen,
    outcome: Outcome,
    summary: Summary,
    rules: Mapping[str, int],
) -> None:
    """Audit first, events next, derived tables last; quarantine before all."""
    days = set(before.parts)
    fresh = moves.digests(outcome.moves, [p for p in moves.pairs_of(days) if p[1] in days])
    marks = stamps(run.lake, stage, before.parts, fresh)
    made_by = versions.number(rules)
    lost = write.quarantine(run, stage, days, outcome)
    for day in sorted(days):
        audit = outcome.audit.filter(pl.col("date") == day)
        write.audit(run, stage, day, audit, before.version, fresh)
        if day != UNPLACED:
            write.scores(run, stage, day, outcome)
    for table in (stage.clean, *stage.derived):
        for day in sorted(days):
            stamp = {write.app(day): marks[day], versions.app(day): made_by}
            if table in outcome.tables:
                mine = outcome.tables[table].filter(pl.col("date") == day)
                run.lake.replace_day(table, day, mine, stamp)
            elif outcome.staged is not None:
                run.lake.swap_day(table, day, outcome.staged[day], stamp)
    for day in sorted(days):
        have = outcome.count(stage.clean, day)
        summary.rows[stage.clean] = summary.rows.get(stage.clean, 0) + have
    counted = outcome.audit.filter(pl.col("date").is_in(list(days)))
    for rule, count in counted.group_by("rule").agg(pl.col("row_count").sum()).rows():
        summary.rules[rule] = summary.rules.get(rule, 0) + count
    summary.days |= days - {UNPLACED}
    summary.quarantined += lost
