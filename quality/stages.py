"""One repair per raw table: what is computed from the rows of some days."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import date

import polars as pl

from lake import TABLES, UNPLACED, Lake
from quality import (
    errors,
    frame,
    logs,
    lookups,
    moves,
    outcome,
    samples,
    spans,
    suppressions,
)
from quality.clock import skew
from quality.outcome import Outcome
from quality.rules import error_clock, sample_order, time_unit
from quality.rules.time_unit import plausible
from quality.slices import drive

Say = Callable[[str], None]


@dataclass(frozen=True)
class Stage:
    """raw → clean (and derived), with the versions of its rules.

    `work` makes some days of the raw rows of the days it sees, and of those without one.
    `days` tells, from rows without a day of their own, to which days they may belong.
    """

    raw: str
    clean: str
    versions: Mapping[str, int]
    work: Callable[[Lake, Collection[date], Collection[date], Say], Outcome]
    days: Callable[[pl.DataFrame], pl.Series]
    derived: tuple[str, ...] = ()


def _spans(lake: Lake, seen: Collection[date], days: Collection[date], say: Say) -> Outcome:
    return drive.repaired(lake, seen, days, suppressions.of(lake), say)


def raw_rows(lake: Lake, table: str, days: Collection[date]) -> pl.DataFrame:
    """The raw rows of some days, and those without one, in the order they came."""
    rows = lake.scan(table).filter(pl.col("date").is_in([*days, UNPLACED])).collect()
    return rows.sort("batch", "arrival")


def _errors(lake: Lake, seen: Collection[date], _days: Collection[date], _say: Say) -> Outcome:
    raw = raw_rows(lake, "raw_errors", seen)
    days = list(seen)
    lines, exempt = lookups.clock_lines(lake, days), suppressions.of(lake).exempt(raw["date"])
    named = lookups.named_spans(lake, days, raw)
    found = errors.repair(raw, lines, lookups.pods(lake, days), named, exempt)
    rows, merged = outcome.dated(found.errors), outcome.dated(found.merged)
    both = pl.concat(one.select("row", "row_key", "before", "date") for one in (rows, merged))
    shifts = moves.moved(both.rename({"date": "after"}))
    values = found.audit.join(both.select("row", "date"), on="row", how="inner")
    return Outcome(
        {"errors": rows.select(TABLES["errors"].schema.names)},
        _audits(values, _clocks(lines, found.moved), moves.audit(shifts)),
        outcome.checks(rows),
        shifts,
        outcome.whole(raw, found.quarantined["row"]),
        merged=merged["date"],
    )


def _logs(lake: Lake, seen: Collection[date], _days: Collection[date], _say: Say) -> Outcome:
    days = list(seen)
    fine, lost = outcome.usable(raw_rows(lake, "raw_logs", seen))
    lines = lookups.clock_lines(lake, days)
    exempt = suppressions.of(lake).exempt(fine["date"])
    pods, known = lookups.pods(lake, days), lookups.known_templates(lake)
    named = lookups.named_spans(lake, days, fine)
    found = logs.repair(fine, lines, pods, known, named, exempt)
    rows = outcome.dated(found.logs)
    joined = found.joined.join(rows.select(into="row", after="date"), on="into")
    alone = rows.select("row_key", "before", after="date")
    shifts = pl.concat([moves.moved(alone), moves.moved(joined)])
    values = found.audit.join(rows.select("row", "date"), on="row", how="inner")
    moved = rows.filter(pl.col("ts") != pl.col("before_ts"))
    moved = moved.select(host="node", at=skew.nanos(pl.col("before_ts")))
    return Outcome(
        {"logs": rows.select(TABLES["logs"].schema.names)},
        _audits(values, _clocks(lines, moved), moves.audit(shifts)),
        outcome.checks(rows),
        shifts,
        lost,
        joined=joined["before"],
        texts=rows.select("template_id", "template").unique(),
    )


def _samples(lake: Lake, seen: Collection[date], _days: Collection[date], _say: Say) -> Outcome:
    fine, lost = outcome.usable(raw_rows(lake, "raw_samples", seen))
    exempt = suppressions.of(lake).exempt(fine["date"])
    found = samples.repair(fine, lake.read("series"), exempt)
    rows = found.samples.with_columns(service=pl.col("metric"))
    late = found.late.group_by("date", service="metric").agg(
        pl.lit(sample_order.NAME).first().alias("check_name"),
        *(pl.len().cast(pl.Int64).alias(name) for name in ("rows", "faulty", "repaired")),
    )
    return Outcome(
        {"samples": rows.select(TABLES["samples"].schema.names)},
        _audits(found.audit.join(found.merged.select("row", "date"), on="row", how="inner")),
        pl.concat([outcome.checks(rows), late], how="diagonal"),
        pl.DataFrame(schema=moves.SCHEMA),
        lost,
        merged=found.merged["date"],
    )


def _clocks(lines: list[skew.Line], moved: pl.DataFrame) -> pl.DataFrame:
    """The lines that moved any of these rows (host, at), as audit rows."""
    return skew.audit(lines, moved).filter(pl.col("row_count") > 0)


def _audits(*parts: pl.DataFrame) -> pl.DataFrame:
    return pl.concat(parts, how="diagonal").drop("row", strict=False)


def _day_of(nanos: str) -> pl.Expr:
    return pl.col(nanos).cast(pl.Datetime("ns", "UTC")).dt.date().alias("date")


def _days_of_spans(raw: pl.DataFrame) -> pl.Series:
    rows = time_unit.apply(frame.narrow(raw)).filter(plausible(pl.col("start_ns")))
    return rows.select(_day_of("start_ns").unique()).to_series()


def _days_of_errors(raw: pl.DataFrame) -> pl.Series:
    rows = error_clock.apply(raw.with_columns(pl.lit([], pl.List(pl.String)).alias("repaired")))
    fine = rows.filter(plausible(skew.nanos(pl.col("ts"))))
    return fine.select(pl.col("ts").dt.date().unique()).to_series()


def _no_days(_raw: pl.DataFrame) -> pl.Series:
    return pl.Series("date", [], pl.Date)


STAGES = (
    Stage("raw_spans", "spans", spans.VERSIONS, _spans, _days_of_spans, ("red", "edges")),
    Stage("raw_errors", "errors", errors.VERSIONS, _errors, _days_of_errors),  # these two use the
    Stage("raw_logs", "logs", logs.VERSIONS, _logs, _no_days),  # clocks and ids of spans: after
    Stage("raw_samples", "samples", samples.VERSIONS, _samples, _no_days),
)
