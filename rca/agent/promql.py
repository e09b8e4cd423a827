"""A small part of PromQL over the lake's samples: a selector with matchers, `rate` or `increase`
over a range, and one of sum, avg, max, min by labels around it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import polars as pl

from lake import Lake, UserError
from rca.evidence import plain

_SHAPE = re.compile(
    r"^\s*(?:(?P<agg>sum|avg|max|min)\s*(?:by\s*\((?P<by>[^)]*)\))?\s*\(\s*)?"
    r"(?:(?P<fn>rate|increase)\s*\(\s*)?"
    r"(?P<metric>[a-zA-Z_:][\w:]*)\s*(?:\{(?P<match>[^}]*)\})?\s*(?:\[(?P<range>\d+[smh])\])?\s*\)*\s*$"
)
_MATCHER = re.compile(r'\s*(\w+)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"\s*(?:,|$)')
MOST = 20  # series of an answer; how many there were is said


def evaluate(lake: Lake, query: str, start: datetime, end: datetime) -> dict[str, Any]:
    """First, last, lowest and highest value per series or group between two times.

    Raises UserError, saying what is understood, for any other PromQL.
    """
    found = _SHAPE.match(query)
    if not found:
        raise UserError(
            'without a Prometheus server this understands metric{label="value"}, rate(…[5m]),'
            f" increase(…[5m]) and sum|avg|max|min by (label) (…); not {query!r}."
        )
    series = _matching(lake, found["metric"], found["match"] or "")
    samples = (
        lake.scan("samples")
        .filter(
            pl.col("date").is_between(start.date(), end.date()),
            pl.col("ts").is_between(start, end),
            pl.col("metric") == found["metric"],
        )
        .select("series", "ts", "value")
        .collect()
        .join(series, on="series")
        .sort("series", "ts")
    )
    if found["fn"]:
        samples = _growth(samples, per_second=found["fn"] == "rate")
    by = [one.strip() for one in (found["by"] or "").split(",") if one.strip()]
    if found["agg"]:
        samples = _grouped(samples, found["agg"], by)
    return _summary(samples)


def _matching(lake: Lake, metric: str, text: str) -> pl.DataFrame:
    """The series of a metric whose labels match: (series, labels)."""
    rows = (
        lake.scan("series").filter(pl.col("metric") == metric).select("series", "labels").collect()
    )
    if not rows.height:
        known = lake.scan("series").select("metric").unique().collect()["metric"].sort().to_list()
        raise UserError(f"the lake has no metric {metric!r}; it has {', '.join(known[:30])}.")
    rest = _MATCHER.sub("", text).strip()
    if rest:
        raise UserError(f'cannot read the matcher {rest!r}; write label="value".')
    for label, operator, value in _MATCHER.findall(text):
        given = pl.col("labels").map.get(label).fill_null("")
        hit = given.str.contains(f"^(?:{value})$") if "~" in operator else given == value
        rows = rows.filter(~hit if operator.startswith("!") else hit)
    return rows


def _growth(samples: pl.DataFrame, *, per_second: bool) -> pl.DataFrame:
    """What a counter grew between neighbouring samples; a fall is a restart from zero."""
    last = pl.col("value").shift(1).over("series")
    grown = pl.when(pl.col("value") >= last).then(pl.col("value") - last).otherwise("value")
    seconds = (pl.col("ts") - pl.col("ts").shift(1).over("series")).dt.total_milliseconds() / 1000
    value = grown / seconds if per_second else grown
    return samples.with_columns(pl.when(last.is_not_null()).then(value).alias("value")).drop_nulls(
        "value"
    )


def _grouped(samples: pl.DataFrame, aggregate: str, by: Sequence[str]) -> pl.DataFrame:
    keys = [pl.col("labels").map.get(label).alias(label) for label in by]
    value = {
        "sum": pl.col("value").sum(),
        "avg": pl.col("value").mean(),
        "max": pl.col("value").max(),
        "min": pl.col("value").min(),
    }[aggregate]
    grouped = samples.with_columns(keys).group_by("ts", *by).agg(value)
    name = (
        pl.concat_str(
            [pl.format("{}={}", pl.lit(one), pl.col(one).fill_null("")) for one in by],
            separator=",",
        )
        if by
        else pl.lit(aggregate)
    )
    return grouped.with_columns(name.alias("series"))


def _summary(samples: pl.DataFrame) -> dict[str, Any]:
    order = samples.sort("ts").group_by("series", maintain_order=True)
    named = pl.col("labels").first() if "labels" in samples.columns else pl.col("series").first()
    rows = order.agg(
        named.alias("of"),
        pl.col("value").first().alias("first"),
        pl.col("value").last().alias("last"),
        pl.col("value").min().alias("lowest"),
        pl.col("value").max().alias("highest"),
        pl.len().alias("points"),
    ).drop("series")
    shown = rows.sort("highest", descending=True).head(MOST).to_dicts()
    return {
        "series": [{key: plain(value) for key, value in row.items()} for row in shown],
        "of": rows.height,
    }
