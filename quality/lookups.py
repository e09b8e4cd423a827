"""What one stage's repair looks up in the lake that another stage wrote."""

from __future__ import annotations

from datetime import date

import msgspec
import polars as pl

from lake import Lake
from quality import templates
from quality.clock import skew
from quality.rules import id_format, id_reference, time_zone


def clock_lines(lake: Lake, days: list[date]) -> list[skew.Line]:
    """The clock lines that the repair of spans wrote into `repairs` for some days."""
    rows = (
        lake.scan("repairs")
        .filter(
            pl.col("date").is_in(days),
            pl.col("table_name") == "spans",
            pl.col("rule").is_in([skew.NAME, time_zone.NAME]),
        )
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
    return found.filter(pl.len().over("pod") == 1).sort("pod")


def named_spans(lake: Lake, days: list[date], raw: pl.DataFrame) -> pl.DataFrame:
    """The spans of some days that share a trace id or a span id with raw rows, in the columns of
    `id_reference.SPANS`, as wide as their clock's error makes them."""
    named = id_format.apply(
        raw.select("trace_id", "span_id")
        .unique()
        .with_columns(
            pl.lit(None, pl.String).alias("parent_span_id"),
            pl.lit([], pl.List(pl.String)).alias("repaired"),
        )
    )
    if not named["span_id"].count():
        return pl.DataFrame(schema=id_reference.SPANS)
    error, length = pl.col("clock_error_ns"), pl.col("duration_ns").clip(lower_bound=0)
    ids = [named[name].drop_nulls().unique().implode() for name in ("trace_id", "span_id")]
    return (
        lake.scan("spans")
        .filter(pl.col("date").is_in(days))
        .filter(pl.col("trace_id").is_in(ids[0]) | pl.col("span_id").is_in(ids[1]))
        .select(
            "trace_id",
            "span_id",
            "service",
            pl.col("start_ns") - error,
            (pl.col("start_ns") + length + error).alias("end_ns"),
        )
        .collect()
    )


def known_templates(lake: Lake) -> pl.Series:
    """The texts of the templates that are known."""
    return lake.scan("templates").select("template").collect()["template"]


def update_templates(lake: Lake, texts: pl.DataFrame) -> None:
    """Bring `templates` up to what `logs` holds now, from new (template_id, template)."""
    seen = (
        lake.scan("logs")
        .group_by("template_id")
        .agg(
            pl.col("ts").min().alias("first_seen"),
            pl.col("ts").max().alias("last_seen"),
            pl.len().cast(pl.Int64).alias("count"),
        )
        .collect()
    )
    lake.update("templates", lambda known: templates.gathered(known, texts, seen))
