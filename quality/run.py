"""`repair`: raw tables into clean ones, only the days that changed, each in one commit.

A day's stamp is a hash of what it is made from. It is kept as an app transaction of the tables
the day is written to, so a run that was killed leaves days whose stamp does not match, and the
next run makes exactly those.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl

from lake import TABLES, UNPLACED, Lake
from quality import stages
from quality.stages import STAGES, Outcome, Stage

DAY = timedelta(days=1)
_PLACING = ("time_unit", "time_implausible")  # rules that give an unplaced row its day


@dataclass
class Summary:
    """What a run did: the days it made, rows written per clean table, changes per rule, and rows
    in quarantine."""

    days: set[date] = field(default_factory=set)
    rows: dict[str, int] = field(default_factory=dict)
    rules: dict[str, int] = field(default_factory=dict)
    quarantined: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON, the busiest rule first."""
        order = sorted(self.rules.items(), key=lambda item: -item[1])
        return {
            "days": [str(day) for day in sorted(self.days)],
            "rows": self.rows,
            "rules": dict(order),
            "quarantined": self.quarantined,
        }


def repair(
    lake: Lake,
    days: Sequence[date] | None = None,
    progress: Callable[[str], None] | None = None,
    now: datetime | None = None,
) -> Summary:
    """Make the clean tables follow the raw ones; `days` limits the run to some days.

    A second run without new raw rows writes nothing.
    """
    summary = Summary()
    moment = now or datetime.now(UTC)
    run_id = f"repair-{moment:%Y%m%dT%H%M%S.%f}"
    texts: list[pl.DataFrame] = []
    for stage in STAGES:
        for chunk in _chunks(_dirty(lake, stage, days)):
            if progress:
                progress(f"{stage.clean} {min(chunk)} … {max(chunk)}")
            outcome = _compute(lake, stage, chunk)
            _write(lake, stage, chunk, outcome, run_id, moment, summary)
            if outcome.texts is not None:
                texts.append(outcome.texts)
    if texts:
        stages.update_templates(lake, pl.concat(texts))
    return summary


def stamps(lake: Lake, stage: Stage, days: Sequence[date]) -> dict[date, int]:
    """What each day is made from, as a number: raw files of the day, its neighbours and the
    unplaced rows, rule versions, and for logs the clocks of their hosts."""
    files = {
        day: [file.rsplit("/", 1)[-1] for file in lake.files(stage.raw, {"date": day})]
        for day in {other for day in days for other in _around([day])} | {UNPLACED}
    }
    found = {}
    for day in days:
        parts = [*(file for other in _around([day]) for file in files[other]), *files[UNPLACED]]
        parts.append(repr(sorted(stage.versions.items())))
        if stage.clean == "logs":
            parts.append(repr(stages.clock_lines(lake, _around([day]))))
            parts.append(repr(stages.pods(lake, _around([day])).sort("pod").rows()))
        digest = hashlib.blake2b("\n".join(parts).encode(), digest_size=8).digest()
        found[day] = int.from_bytes(digest, "big") >> 1
    return found


def _dirty(lake: Lake, stage: Stage, days: Sequence[date] | None) -> dict[date, int]:
    """The days whose stamp differs from what their tables carry, with their new stamp."""
    raw = set(lake.days(stage.raw))
    every = (raw | set(lake.days(stage.clean))) - {UNPLACED}
    if raw and not every:
        every = {UNPLACED}  # nothing but rows without a day: they go to quarantine
    asked = sorted(every if days is None else every & set(days))
    fresh = stamps(lake, stage, asked)
    for table in (stage.clean, *stage.derived):
        held = lake.transactions(table, [_app(day) for day in asked])
        if table == stage.clean:
            clean = {day for day in asked if held[_app(day)] == fresh[day]}
        else:
            clean &= {day for day in asked if held[_app(day)] == fresh[day]}
    return {day: fresh[day] for day in asked if day not in clean}


def _app(day: date) -> str:
    return f"repair/{day}"


def _chunks(dirty: Mapping[date, int]) -> list[dict[date, int]]:
    """Days that are computed together: those that see each other's rows."""
    chunks: list[dict[date, int]] = []
    for day in sorted(dirty):
        if chunks and day - max(chunks[-1]) <= 2 * DAY:
            chunks[-1][day] = dirty[day]
        else:
            chunks.append({day: dirty[day]})
    return chunks


def _around(days: Sequence[date]) -> list[date]:
    return sorted({other for day in days for other in (day - DAY, day, day + DAY)})


def _compute(lake: Lake, stage: Stage, chunk: Mapping[date, int]) -> Outcome:
    seen = _around(list(chunk))
    raw = lake.scan(stage.raw).filter(pl.col("date").is_in([*seen, UNPLACED])).collect()
    return stage.work(lake, raw.sort("batch", "arrival"), seen)


def _write(
    lake: Lake,
    stage: Stage,
    chunk: Mapping[date, int],
    outcome: Outcome,
    run_id: str,
    now: datetime,
    summary: Summary,
) -> None:
    """Audit first, events next, derived tables last."""
    version = lake.version(stage.raw)
    lost = _quarantine(lake, stage, chunk, outcome, run_id, now)
    for day in sorted(chunk):
        part: dict[str, str | date] = {"date": day, "table_name": stage.clean}
        audit = outcome.audit.filter(pl.col("date") == day)
        lake.replace("repairs", part, _repairs(audit, stage, run_id, version, now))
        lake.replace("scorecard", part, _scores(outcome, stage, day, run_id, now))
        for table, rows in outcome.tables.items():
            mine = rows.filter(pl.col("date") == day)
            lake.replace_day(table, day, mine, {_app(day): chunk[day]})
            if table == stage.clean:
                summary.rows[table] = summary.rows.get(table, 0) + mine.height
        for rule, count in audit.group_by("rule").agg(pl.col("row_count").sum()).rows():
            summary.rules[rule] = summary.rules.get(rule, 0) + count
    summary.days |= set(chunk) - {UNPLACED}
    summary.quarantined += lost


def _repairs(
    audit: pl.DataFrame, stage: Stage, run_id: str, version: int, now: datetime
) -> pl.DataFrame:
    versions = pl.col("rule").replace_strict(stage.versions, default=1, return_dtype=pl.Int32)
    return audit.with_columns(
        pl.lit(run_id).alias("run_id"),
        pl.lit(stage.clean).alias("table_name"),
        versions.alias("rule_version"),
        pl.lit(version, pl.Int64).alias("raw_version"),
        _now(now),
    ).select(TABLES["repairs"].schema.names)


def _scores(outcome: Outcome, stage: Stage, day: date, run_id: str, now: datetime) -> pl.DataFrame:
    """The day's checks, and how its raw rows were accounted for."""
    clean = outcome.tables[stage.clean].filter(pl.col("date") == day).height
    counts = {
        "clean_rows": clean,
        "duplicates_merged": int((outcome.merged == day).sum()),
        "partials_joined": int((outcome.joined == day).sum()),
    }
    rows = [
        {"service": None, "check_name": name, "rows": count, "faulty": 0, "repaired": 0}
        for name, count in counts.items()
    ]
    kinds = {"service": pl.String, "check_name": pl.String}
    kinds |= dict.fromkeys(("rows", "faulty", "repaired"), pl.Int64)  # type: ignore[arg-type]
    account = pl.DataFrame(rows, schema=kinds)
    checks = outcome.checks.filter(pl.col("date") == day).select(account.columns)
    share = pl.when(pl.col("rows") > 0).then(pl.col("faulty") / pl.col("rows")).otherwise(0.0)
    return (
        pl.concat([account, checks.sort("service", "check_name")])
        .with_columns(
            pl.lit(run_id).alias("run_id"),
            pl.lit(stage.clean).alias("table_name"),
            pl.lit(day).alias("date"),
            pl.lit(0, pl.Int64).alias("quarantined"),
            share.alias("share"),
            _now(now),
        )
        .select(TABLES["scorecard"].schema.names)
    )


def _quarantine(
    lake: Lake,
    stage: Stage,
    chunk: Mapping[date, int],
    outcome: Outcome,
    run_id: str,
    now: datetime,
) -> int:
    """Put the rows that cannot be placed into quarantine, whole; those placed since leave it."""
    elsewhere = (
        lake.scan("repairs")
        .filter(~pl.col("date").is_in(list(chunk)), pl.col("rule").is_in(_PLACING))
        .select("row_key")
        .collect()
    )
    seen = _around(list(chunk))
    raw = lake.scan(stage.raw).filter(pl.col("date").is_in([*seen, UNPLACED])).collect()
    raw = raw.with_columns(pl.format("{}:{}", "batch", "arrival").alias("row_key"))
    lost = outcome.quarantined.join(elsewhere, on="row_key", how="anti")
    rows = raw.join(lost, on="row_key")
    whole = [name for name, kind in raw.schema.items() if not isinstance(kind, pl.Map)]
    fresh = rows.select(
        pl.lit(stage.clean).alias("table_name"),
        "reason",
        pl.struct(whole).struct.json_encode().alias("raw_row"),
        "source",
        "batch",
        pl.lit(run_id).alias("run_id"),
        _now(now),
    )
    own = pl.col("table_name") == stage.clean
    old = lake.scan("quarantine").filter(own).collect()
    key = pl.col("raw_row").str.json_path_match("$.row_key")
    stays = old.filter(~key.is_in(raw["row_key"].implode()))
    same = old.join(fresh, on=["raw_row", "reason"], how="semi")
    if same.height == old.height - stays.height == fresh.height:
        return fresh.height
    lake.replace("quarantine", {"table_name": stage.clean}, pl.concat([stays, fresh]))
    return fresh.height


def _now(now: datetime) -> pl.Expr:
    return pl.lit(now).cast(pl.Datetime("us", "UTC")).alias("recorded_at")
