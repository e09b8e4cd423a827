"""The user's own checks: a SQL predicate that must hold for every row of a table, and what is done
with rows for which it does not.

`warn` counts them. `quarantine` moves them out of the clean table, whole, while their day is
repaired. `fail` keeps a day as it was when more of its rows than tolerated are in violation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date
from zlib import crc32

import polars as pl

from lake import UserError, holds
from quality.outcome import Outcome
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


def enforce(stage: Stage, outcome: Outcome, expectations: Sequence[Expectation]) -> Outcome:
    """The outcome without the rows that go to quarantine; they are in its `refused`."""
    rows, refused = outcome.tables.get(stage.clean, pl.DataFrame()), [outcome.refused]
    for one in expectations:
        if one.table != stage.clean or one.action != "quarantine":
            continue
        bad = judge(one, rows)
        if bad.any():
            refused.append(_whole(one, rows.filter(bad)))
            rows = rows.filter(~bad)
    if len(refused) == 1:
        return outcome
    tables = {**outcome.tables, stage.clean: rows}
    if "red" in stage.derived:
        tables |= derive.of(rows)
    return dataclasses.replace(outcome, tables=tables, refused=pl.concat(refused))


def _whole(expectation: Expectation, rows: pl.DataFrame) -> pl.DataFrame:
    plain = rows.with_columns(
        pl.col(name).cast(pl.List(pl.Struct({"key": pl.String, "value": pl.String})))
        for name, kind in rows.schema.items()
        if isinstance(kind, pl.Map)
    )
    texts = plain.select(pl.struct(pl.all()).struct.json_encode().alias("raw_row"))
    return texts.select(rows["date"], pl.lit(expectation.reason).alias("reason"), "raw_row")


def refusals(
    stage: Stage, outcome: Outcome, expectations: Sequence[Expectation], days: Collection[date]
) -> list[Refusal]:
    """The days that must not be published."""
    rows = outcome.tables.get(stage.clean, pl.DataFrame())
    found = list[Refusal]()
    for one in expectations:
        if one.table != stage.clean or one.action != "fail" or not rows.height:
            continue
        judged = rows.select("date").with_columns(judge(one, rows).alias("bad"))
        counted = judged.filter(pl.col("date").is_in(list(days))).group_by("date")
        shares = counted.agg(pl.len().alias("rows"), pl.col("bad").sum().alias("faulty"))
        worse = shares.filter(pl.col("faulty") > one.tolerate * pl.col("rows")).sort("date")
        found += [Refusal(one.table, day, one.name, n, bad) for day, n, bad in worse.rows()]
    return found
