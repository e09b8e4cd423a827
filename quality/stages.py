"""One repair per raw table: what is computed from the rows of some days."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date

import polars as pl

from lake import TABLES, Lake
from quality import (
    derived,
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


@dataclass(frozen=True)
class Stage:
    """raw → clean (and derived), with the versions of its rules.

    `days` tells, from rows without a day of their own, to which days they may belong.
    """

    raw: str
    clean: str
    versions: Mapping[str, int]
    work: Callable[[Lake, pl.DataFrame, list[date]], Outcome]
    days: Callable[[pl.DataFrame], pl.Series]
    derived: tuple[str, ...] = ()


def _spans(lake: Lake, raw: pl.DataFrame, _days: list[date]) -> Outcome:
    found = spans.repair(frame.narrow(raw), suppressions.of(lake).exempt(raw["date"]))
    clean = frame.widen(found.spans, raw)
    placed = pl.concat(
        one.select("row", "row_key", _day_of("start_ns")) for one in (found.spans, found.merged)
    )
    placed = placed.with_columns(raw["date"].gather(placed["row"]).alias("before"))
    shifts = moves.moved(placed.rename({"date": "after"}))
    values = found.audit.join(placed.select("row", "date"), on="row", how="inner")
    return Outcome(
        {"spans": clean, "red": derived.red(clean), "edges": derived.edges(clean)},
        _audits(values, found.clock_audit, moves.audit(shifts)),
        outcome.checks(clean),
        shifts,
        outcome.whole(raw, found.quarantined["row"], "no usable time (time_implausible)"),
        merged=found.merged.select(_day_of("start_ns"))["date"],
    )


def _errors(lake: Lake, raw: pl.DataFrame, _days: list[date]) -> Outcome:
    found = errors.repair(raw, suppressions.of(lake).exempt(raw["date"]))
    rows, merged = outcome.dated(found.errors), outcome.dated(found.merged)
    both = pl.concat(one.select("row", "row_key", "before", "date") for one in (rows, merged))
    shifts = moves.moved(both.rename({"date": "after"}))
    values = found.audit.join(both.select("row", "date"), on="row", how="inner")
    return Outcome(
        {"errors": rows.select(TABLES["errors"].schema.names)},
        _audits(values, moves.audit(shifts)),
        outcome.checks(rows),
        shifts,
        outcome.whole(raw, found.quarantined["row"]),
        merged=merged["date"],
    )


def _logs(lake: Lake, raw: pl.DataFrame, days: list[date]) -> Outcome:
    fine, lost = outcome.usable(raw)
    lines = lookups.clock_lines(lake, days)
    exempt = suppressions.of(lake).exempt(fine["date"])
    pods, known = lookups.pods(lake, days), lookups.known_templates(lake)
    found = logs.repair(fine, lines, pods, known, exempt)
    rows = outcome.dated(found.logs)
    joined = found.joined.join(rows.select(into="row", after="date"), on="into")
    alone = rows.select("row_key", "before", after="date")
    shifts = pl.concat([moves.moved(alone), moves.moved(joined)])
    values = found.audit.join(rows.select("row", "date"), on="row", how="inner")
    moved = rows.filter(pl.col("ts") != pl.col("before_ts"))
    moved = moved.select(host="node", at=skew.nanos(pl.col("before_ts")))
    return Outcome(
        {"logs": rows.select(TABLES["logs"].schema.names)},
        _audits(values, skew.audit(lines, moved), moves.audit(shifts)),
        outcome.checks(rows),
        shifts,
        lost,
        joined=joined["before"],
        texts=rows.select("template_id", "template").unique(),
    )


def _samples(lake: Lake, raw: pl.DataFrame, _days: list[date]) -> Outcome:
    fine, lost = outcome.usable(raw)
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
    Stage("raw_errors", "errors", errors.VERSIONS, _errors, _days_of_errors),
    Stage("raw_logs", "logs", logs.VERSIONS, _logs, _no_days),  # after spans: uses their clocks
    Stage("raw_samples", "samples", samples.VERSIONS, _samples, _no_days),
)
