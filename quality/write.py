"""A repaired day into the lake: its audit, its scores, what is in quarantine."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Protocol

import polars as pl

from lake import TABLES, UNPLACED, Lake, empty, fit
from quality import moves, versions
from quality.moves import Pair
from quality.outcome import Outcome


class Stage(Protocol):
    """What is repaired: the clean table, and the versions of its rules."""

    @property
    def clean(self) -> str:
        """The table's name."""

    @property
    def versions(self) -> Mapping[str, int]:
        """By rule."""


@dataclass(frozen=True)
class Run:
    """One `repair`: where it writes, its name, and when it began."""

    lake: Lake
    name: str
    now: datetime

    def stamp(self) -> list[pl.Expr]:
        """The columns that say which run wrote a row."""
        now = pl.lit(self.now).cast(pl.Datetime("us", "UTC"))
        return [pl.lit(self.name).alias("run_id"), now.alias("recorded_at")]


EXPECTED = "expectation "  # how the reason of a row begins that an expectation keeps out


def app(day: date) -> str:
    """The app transaction that keeps a day's stamp."""
    return f"repair/{day}"


def audit(
    run: Run,
    stage: Stage,
    day: date,
    rows: pl.DataFrame,
    version: int,
    digests: Mapping[Pair, int],
) -> None:
    """The day's changes into `repairs`, with the digests of the rows that moved to it."""
    whole = audited(run, stage, rows, version)
    mine = {moves.app(stage.clean, pair): n for pair, n in digests.items() if pair[1] == day}
    held = run.lake.transactions("repairs", mine)
    marks = {name: digest for name, digest in mine.items() if digest != max(held[name], 0)}
    part: dict[str, str | date] = {"date": day, "table_name": stage.clean}
    if not whole.height and not marks and not run.lake.files("repairs", part):
        return
    run.lake.replace("repairs", part, whole, marks)


def audited(run: Run, stage: Stage, rows: pl.DataFrame, version: int) -> pl.DataFrame:
    """Changes (columns of `quality.audit`, `date`) as rows of `repairs`."""
    rules = pl.col("rule").replace_strict(stage.versions, default=1, return_dtype=pl.Int32)
    table = TABLES["repairs"]
    whole = pl.concat([empty(table), rows], how="diagonal").with_columns(
        *run.stamp(),
        pl.lit(stage.clean).alias("table_name"),
        rules.alias("rule_version"),
        pl.lit(version, pl.Int64).alias("raw_version"),
    )
    return whole.select(table.schema.names)


def scores(run: Run, stage: Stage, day: date, outcome: Outcome) -> None:
    """The day's checks, and how its raw rows were accounted for, into `scorecard`."""
    clean = outcome.count(stage.clean, day)
    merged, joined = (int((days == day).sum()) for days in (outcome.merged, outcome.joined))
    counts = {
        "raw_rows": clean + merged + joined,
        "clean_rows": clean,
        "duplicates_merged": merged,
        "partials_joined": joined,
    }
    checks = outcome.checks.filter(pl.col("date") == day).sort("service", "check_name")
    made_by = _counts({versions.check(rule): n for rule, n in sorted(stage.versions.items())})
    _score(run, stage, day, pl.concat([_counts(counts), made_by, checks], how="diagonal"))


def _counts(counts: Mapping[str, int]) -> pl.DataFrame:
    return pl.DataFrame(
        {"check_name": list(counts), "rows": list(counts.values())},
        schema={"check_name": pl.String, "rows": pl.Int64},
    )


def _score(run: Run, stage: Stage, day: date, rows: pl.DataFrame) -> None:
    table = TABLES["scorecard"]
    whole = pl.concat([empty(table), rows.drop("date", strict=False)], how="diagonal")
    counts = ("faulty", "repaired", "quarantined")
    whole = whole.with_columns(
        *run.stamp(),
        pl.lit(stage.clean).alias("table_name"),
        pl.lit(day).alias("date"),
        *(pl.col(name).fill_null(0) for name in counts),
    )
    bad = pl.max_horizontal("faulty", "quarantined") / pl.col("rows")
    share = pl.when(pl.col("rows") > 0).then(bad).otherwise(0.0).alias("share")
    part: dict[str, str | date] = {"date": day, "table_name": stage.clean}
    run.lake.replace("scorecard", part, whole.with_columns(share).select(table.schema.names))


def quarantine(run: Run, stage: Stage, days: Collection[date], outcome: Outcome) -> int:
    """Rows that cannot be placed, or that an expectation keeps out, into `quarantine`, whole; how
    many they are now.

    The former come from the partition of rows without a day, which every run sees whole; so what
    this run did not lose, or another day has placed, leaves it. The latter are those of the days
    made now, beside those of other days.
    """
    elsewhere = moves.recorded(run.lake, stage.clean, None).filter(
        pl.col("before") == UNPLACED, ~pl.col("after").is_in(list(days))
    )
    lost = outcome.quarantined.join(elsewhere, on="row_key", how="anti").sort("row_key")
    placeless = lost.select(
        "reason",
        pl.struct(pl.exclude("reason")).struct.json_encode().alias("raw_row"),
        "source",
        "batch",
    )
    held = run.lake.scan("quarantine").filter(pl.col("table_name") == stage.clean).collect()
    other = held.filter(pl.col("reason").str.starts_with(EXPECTED), ~_of_days(days))
    refused = outcome.refused.filter(pl.col("date").is_in(list(days))).drop("date")
    new = pl.concat([placeless, refused], how="diagonal").with_columns(
        pl.lit(stage.clean).alias("table_name"), *run.stamp()
    )
    fresh = pl.concat([new.select(held.columns), other])
    same = ["reason", "raw_row"]
    if not held.select(same).sort(same).equals(fresh.select(same).sort(same)):
        whole = fit(TABLES["quarantine"], fresh)
        rows = _counts({"quarantined": whole.height})
        _score(run, stage, UNPLACED, rows.with_columns(pl.col("rows").alias("quarantined")))
        run.lake.replace("quarantine", {"table_name": stage.clean}, whole)
    return fresh.height


def _of_days(days: Collection[date]) -> pl.Expr:
    """Whether a row of quarantine was a clean row of one of some days."""
    day = pl.col("raw_row").str.json_path_match("$.date")
    return day.is_in([str(one) for one in days])
