"""One repair per raw table: what is computed from the rows of some days."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date

import msgspec
import polars as pl

from lake import TABLES, UNPLACED, Lake
from quality import derived, errors, frame, logs, samples, spans, templates
from quality.clock import skew


@dataclass(frozen=True)
class Outcome:
    """What a stage made of raw rows.

    tables       table name → rows with their `date`; the clean table first, derived ones after
    audit        rows of quality.spans.changes with the `date` they belong to
    merged       `date` of every row merged into another
    joined       `date` of every line joined to another
    quarantined  row_key and reason of rows that cannot be placed
    checks       scorecard rows: date, service, check_name, rows, faulty, repaired
    texts        new log templates
    """

    tables: Mapping[str, pl.DataFrame]
    audit: pl.DataFrame
    checks: pl.DataFrame
    merged: pl.Series = field(default_factory=lambda: pl.Series("date", [], pl.Date))
    joined: pl.Series = field(default_factory=lambda: pl.Series("date", [], pl.Date))
    quarantined: pl.DataFrame = field(
        default_factory=lambda: pl.DataFrame(schema={"row_key": pl.String, "reason": pl.String})
    )
    texts: pl.DataFrame | None = None


@dataclass(frozen=True)
class Stage:
    """raw → clean (and derived) with the versions of its rules."""

    raw: str
    clean: str
    versions: Mapping[str, int]
    work: Callable[[Lake, pl.DataFrame, list[date]], Outcome]
    derived: tuple[str, ...] = ()


def _spans(_lake: Lake, raw: pl.DataFrame, _days: list[date]) -> Outcome:
    found = spans.repair(frame.narrow(raw))
    clean = frame.widen(found.spans, raw)
    moved = pl.col("start_ns").cast(pl.Datetime("ns", "UTC")).dt.date().alias("date")
    placed = found.spans.select("row", moved)
    audit = found.audit.join(
        pl.concat([placed, found.merged.select("row", moved)]), on="row", how="left"
    )
    first = (
        pl.col("row_key").str.split("/").list.get(1, null_on_oob=True).cast(pl.Int64, strict=False)
    )
    window = first.cast(pl.Datetime("ns", "UTC")).dt.date()
    return Outcome(
        {"spans": clean, "red": derived.red(clean), "edges": derived.edges(clean)},
        audit.with_columns(pl.coalesce("date", window, pl.lit(UNPLACED)).alias("date")),
        _checks(clean),
        merged=found.merged.select(moved)["date"],
        quarantined=found.quarantined.select(
            "row_key", reason=pl.lit("no usable time (time_implausible)")
        ),
    )


def _logs(lake: Lake, raw: pl.DataFrame, days: list[date]) -> Outcome:
    found = logs.repair(raw, clock_lines(lake, days), pods(lake, days))
    rows = found.logs.with_columns(pl.col("ts").dt.date().alias("date"))
    lines = raw.select(pl.format("{}:{}", "batch", "arrival").alias("row_key"), "date")
    kept = rows.select("row_key")
    clean = rows.select(TABLES["logs"].schema.names)
    return Outcome(
        {"logs": clean},
        _dated(found.audit, rows),
        _checks(rows),
        joined=lines.join(kept, on="row_key", how="anti")["date"],
        texts=rows.select("template_id", "template").unique(),
    )


def _errors(_lake: Lake, raw: pl.DataFrame, _days: list[date]) -> Outcome:
    found = errors.repair(raw)
    rows = found.errors.with_columns(pl.col("ts").dt.date().alias("date"))
    return Outcome(
        {"errors": rows.select(TABLES["errors"].schema.names)},
        _dated(found.audit, rows),
        _checks(rows),
        merged=found.merged["date"],
    )


def _samples(lake: Lake, raw: pl.DataFrame, _days: list[date]) -> Outcome:
    found = samples.repair(raw, lake.read("series"))
    rows = found.samples.with_columns(
        service=pl.col("metric"), repaired=pl.lit([], pl.List(pl.String))
    )
    audit = spans.left_out(
        "sample_duplicate",
        found.merged.with_columns(
            pl.lit(-1, pl.Int64).alias("row"),
            pl.format("{}:{}", "batch", "arrival").alias("row_key"),
            pl.lit(None, pl.String).alias("trace_id"),
            pl.lit(None, pl.String).alias("span_id"),
        ),
    )
    return Outcome(
        {"samples": rows.select(TABLES["samples"].schema.names)},
        audit.with_columns(found.merged["date"]),
        _checks(rows),
        merged=found.merged["date"],
    )


STAGES = (
    Stage("raw_spans", "spans", spans.VERSIONS, _spans, ("red", "edges")),
    Stage("raw_errors", "errors", errors.VERSIONS, _errors),
    Stage("raw_logs", "logs", logs.VERSIONS, _logs),  # after spans, whose clocks it uses
    Stage("raw_samples", "samples", samples.VERSIONS, _samples),
)


def _dated(audit: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    return audit.join(rows.select("row", "date"), on="row", how="left")


def _checks(rows: pl.DataFrame) -> pl.DataFrame:
    """Per day, service and rule: rows, how many are faulty still, how many were repaired."""
    keys = ["date", "service"]
    total = rows.group_by(keys).agg(pl.len().cast(pl.Int64).alias("rows"))
    parts = []
    for column in ("faults", "repaired"):
        marks = rows.select(*keys, check_name=column).explode("check_name", empty_as_null=True)
        counted = marks.drop_nulls("check_name").group_by(*keys, "check_name").len()
        parts.append(
            counted.select(*keys, "check_name", pl.col("len").cast(pl.Int64).alias(column))
        )
    on = [*keys, "check_name"]
    both = parts[0].join(parts[1], on=on, how="full", coalesce=True, nulls_equal=True)
    left, mended = pl.col("faults").fill_null(0), pl.col("repaired").fill_null(0)
    return both.join(total, on=keys, how="left", nulls_equal=True).select(
        *on, "rows", faulty=left + mended, repaired=mended
    )


def clock_lines(lake: Lake, days: list[date]) -> list[skew.Line]:
    """The clock lines that the repair of spans wrote into `repairs` for some days."""
    rows = (
        lake.scan("repairs")
        .filter(pl.col("date").is_in(days), pl.col("rule") == skew.NAME)
        .select("row_key", "after")
        .unique()
        .sort("row_key")
        .collect()
    )
    return [skew.Line(**msgspec.json.decode(text)) for text in rows["after"].to_list()]


def pods(lake: Lake, days: list[date]) -> pl.DataFrame:
    """Which host a pod ran on (pod, host), as the spans of some days tell; one host per pod."""
    keys = ("k8s.pod.name", "pod")
    name = pl.coalesce(*(pl.col("resource").map.get(key) for key in keys)).alias("pod")
    found = (
        lake.scan("spans")
        .filter(pl.col("date").is_in(days))
        .select(name, "host")
        .drop_nulls()
        .unique()
        .collect()
    )
    return found.filter(pl.len().over("pod") == 1)


def template_counts(lake: Lake) -> pl.DataFrame:
    """How often, and when first and last, each template stands in `logs`."""
    return (
        lake.scan("logs")
        .group_by("template_id")
        .agg(
            pl.col("ts").min().alias("first_seen"),
            pl.col("ts").max().alias("last_seen"),
            pl.len().cast(pl.Int64).alias("count"),
        )
        .collect()
    )


def update_templates(lake: Lake, texts: pl.DataFrame) -> None:
    """Bring `templates` up to what `logs` holds now."""
    seen = template_counts(lake)
    lake.update("templates", lambda known: templates.gathered(known, texts, seen))
