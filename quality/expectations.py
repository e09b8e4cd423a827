"""The user's own checks: a SQL predicate that must hold for every row of a table, and what is done
with rows for which it does not.

`warn` counts them. `quarantine` moves them out of the clean table, whole, while their day is
repaired. `fail` keeps a day as it was when more of its rows than tolerated are in violation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from zlib import crc32

import polars as pl

from lake import TABLES, UserError, empty, fit, holds
from lake.stage import Staged
from lake.stage import stage as write_staged
from quality.derived import PLACE
from quality.outcome import REFUSED, Outcome
from quality.slices import derive
from quality.stages import STAGES, Stage
from quality.write import EXPECTED

ACTIONS = ("warn", "quarantine", "fail")
CLEAN = tuple(stage.clean for stage in STAGES)


@dataclass(frozen=True)
class Expectation:
    """A check by name: `predicate` must hold for every row of `table`, but for the share that is
    tolerated."""

    name: str
    table: str
    predicate: str
    action: str = "warn"
    tolerate: float = 0.0

    @property
    def reason(self) -> str:
        """Why a row is in quarantine."""
        return f"{EXPECTED}{self.name}"


@dataclass(frozen=True)
class Refusal:
    """A day that was not published, and why: `faulty` of `rows` in violation of `name`."""

    table: str
    date: date
    name: str
    rows: int
    faulty: int


def versions(expectations: Sequence[Expectation], table: str) -> dict[str, int]:
    """What of them changes the rows of a day, as versions beside those of the rules."""
    return {
        one.reason: crc32(one.predicate.encode())
        for one in expectations
        if one.table == table and one.action == "quarantine"
    }


def judge(expectation: Expectation, rows: pl.DataFrame) -> pl.Series:
    """Which rows are in violation."""
    try:
        found = holds(expectation.table, rows.to_arrow(), expectation.predicate)
    except UserError as error:
        raise UserError(
            f"expectation {expectation.name!r} ({expectation.predicate}): {error}"
        ) from error
    return ~pl.Series("violates", pl.from_arrow(found), dtype=pl.Boolean)


def enforce(
    stage: Stage, outcome: Outcome, expectations: Sequence[Expectation], folder: Path
) -> Outcome:
    """The outcome without the rows that go to quarantine; they are in its `refused`. `folder` is
    where staged files of the clean table lie: those that hold such rows are written anew."""
    active = [one for one in expectations if one.table == stage.clean and one.action == ACTIONS[1]]
    if not active:
        return outcome
    if outcome.staged is None:
        rows, refused = _parted(active, outcome.tables[stage.clean])
        tables = {**outcome.tables, stage.clean: rows}
        return dataclasses.replace(outcome, tables=tables, refused=refused)
    staged, parts = dict[date, list[Staged]](), [outcome.refused]
    for day, files in outcome.staged.items():
        staged[day] = []
        for one in files:
            rows, refused = _parted(active, _rows(stage.clean, day, folder / one.path))
            parts.append(refused)
            if not refused.height:
                staged[day].append(one)
                continue
            staged[day] += write_staged(folder, TABLES[stage.clean], rows) if rows.height else []
            (folder / one.path).unlink()
    refused = pl.concat(parts)
    tables = dict(outcome.tables)
    if refused.height:
        tables |= _derived(staged, folder)
    return dataclasses.replace(outcome, tables=tables, staged=staged, refused=refused)


def _parted(
    expectations: Sequence[Expectation], rows: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows that stay, and those that do not (columns of `REFUSED`)."""
    refused = [pl.DataFrame(schema=REFUSED)]
    for one in expectations:
        bad = judge(one, rows)
        if bad.any():
            refused.append(_whole(one, rows.filter(bad)))
            rows = rows.filter(~bad)
    return rows, pl.concat(refused)


def _rows(table: str, day: date, file: Path) -> pl.DataFrame:
    rows = pl.read_parquet(file, hive_partitioning=False).with_columns(pl.lit(day).alias("date"))
    return fit(TABLES[table], rows.select(TABLES[table].schema.names), ordered=True)


def _derived(staged: Mapping[date, Sequence[Staged]], folder: Path) -> dict[str, pl.DataFrame]:
    """`red` and `edges` of the rows that stayed."""
    columns = ["trace_id", "span_id", "parent_span_id", "start_ns", "duration_ns", "status"]
    columns += dict.fromkeys((*PLACE, "service", "operation", "kind"))
    files = [folder / one.path for files in staged.values() for one in files]
    parts = [pl.read_parquet(file, columns=columns, hive_partitioning=False) for file in files]
    return derive.of(pl.concat(parts)) if parts else {n: empty(TABLES[n]) for n in derive.MAKE}


def _whole(expectation: Expectation, rows: pl.DataFrame) -> pl.DataFrame:
    plain = rows.with_columns(
        pl.col(name).cast(pl.List(pl.Struct({"key": pl.String, "value": pl.String})))
        for name, kind in rows.schema.items()
        if isinstance(kind, pl.Map)
    )
    texts = plain.select(pl.struct(pl.all()).struct.json_encode().alias("raw_row"))
    return texts.select(rows["date"], pl.lit(expectation.reason).alias("reason"), "raw_row")


def refusals(
    stage: Stage,
    outcome: Outcome,
    expectations: Sequence[Expectation],
    days: Collection[date],
    folder: Path,
) -> list[Refusal]:
    """The days that must not be published."""
    active = [one for one in expectations if one.table == stage.clean and one.action == ACTIONS[2]]
    counts: dict[tuple[str, date], tuple[int, int]] = {}
    for rows in _pieces(stage, outcome, folder) if active else ():
        for one in active:
            bad = rows.select("date", judge(one, rows).alias("bad")).group_by("date")
            for day, count, faulty in bad.agg(pl.len(), pl.col("bad").sum()).rows():
                known = counts.get((one.name, day), (0, 0))
                counts[one.name, day] = (known[0] + count, known[1] + faulty)
    return [
        Refusal(one.table, day, one.name, *found)
        for one in active
        for day in sorted(days)
        if (found := counts.get((one.name, day))) and found[1] > one.tolerate * found[0]
    ]


def _pieces(stage: Stage, outcome: Outcome, folder: Path) -> Iterator[pl.DataFrame]:
    """The clean rows, as many at a time as one file holds."""
    if outcome.staged is None:
        yield outcome.tables[stage.clean]
        return
    for day, files in outcome.staged.items():
        for one in files:
            yield _rows(stage.clean, day, folder / one.path)
