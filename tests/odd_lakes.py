"""Small lakes of an incident with something odd about them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import polars as pl

from lake import TABLES, Lake, empty
from quality.slices import derive

AT = datetime(2025, 6, 3, 14, 10, tzinfo=UTC)
ONSET = AT - timedelta(minutes=3)
CALLS = (("front", None), ("shop", 0), ("stock", 1))


def spans(
    minutes: int = 40,
    every: float = 2.0,
    names: Mapping[str, str] | None = None,
    start: datetime | None = None,
    onset: datetime | None = ONSET,
) -> pl.DataFrame:
    """Traces front → shop → stock until a minute after AT, one each so many seconds; from the
    onset stock is slow and fails every third time. `names` says what the services are called."""
    start = start or AT - timedelta(minutes=minutes)
    count = int((AT + timedelta(minutes=1) - start).total_seconds() / every)
    rows = pl.DataFrame({"n": range(count)}).with_columns(
        at=pl.lit(start) + pl.duration(microseconds=pl.col("n") * int(every * 1e6))
    )
    bad = pl.lit(value=False) if onset is None else pl.col("at") >= onset
    rows = rows.with_columns(bad=bad, jitter=(pl.col("n") * 7919 % 101) * 10_000)
    each = []
    for place, (name, parent) in enumerate(CALLS):
        took = (3 - place) * 2_000_000 + pl.col("jitter")
        took = pl.when("bad").then(took + 400_000_000).otherwise(took)
        failed = pl.col("bad") & (pl.col("n") % 3 == 0)
        number = pl.col("n").cast(pl.String)
        each.append(
            rows.select(
                start=pl.col("at") + pl.duration(milliseconds=place),
                trace_id=number.str.zfill(32),
                span_id=_span(place),
                parent_span_id=pl.lit(None, pl.String) if parent is None else _span(parent),
                service=pl.lit((names or {}).get(name, name)),
                operation=pl.lit(f"do {name}"),
                kind=pl.lit("server"),
                host=pl.lit("node-1"),
                cluster=pl.lit("eu"),
                duration_ns=took.cast(pl.Int64),
                status=pl.when(failed).then(pl.lit("error")).otherwise(pl.lit("ok")),
                weight=pl.lit(1.0),
            )
        )
    return pl.concat(each).with_columns(
        start_ns=pl.col("start").dt.epoch("ns"), date=pl.col("start").dt.date()
    )


def _span(place: int) -> pl.Expr:
    return pl.concat_str(pl.lit(str(place)), pl.col("n").cast(pl.String).str.zfill(15))


def samples(value: float = 10.0, peak: float = 90.0, number: int = 1) -> dict[str, pl.DataFrame]:
    """A pod's memory each 15 s of the same time, which rises at the onset."""
    times = pl.DataFrame({"n": range(160)}).select(
        ts=pl.lit(AT - timedelta(minutes=39)) + pl.duration(seconds=pl.col("n") * 15)
    )
    rows = times.with_columns(
        metric=pl.lit("memory_working_set"),
        series=pl.lit(number, pl.Int64),
        value=pl.when(pl.col("ts") >= ONSET).then(peak).otherwise(value),
        date=pl.col("ts").dt.date(),
    )
    labels = pl.DataFrame(
        {"metric": ["memory_working_set"], "series": [number], "type": ["gauge"]}
    ).with_columns(
        labels=pl.lit(
            [{"key": "service", "value": "stock"}, {"key": "pod", "value": f"stock-{number}"}]
        ).cast(pl.Map(pl.String, pl.String))
    )
    return {"samples": rows, "series": labels}


def logs(lines: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """A line of each of some spans of stock, an ERROR one where it failed."""
    failed = pl.col("status") == "error"
    rows = lines.filter(pl.col("service") == "stock").select(
        "date",
        "service",
        "trace_id",
        "span_id",
        ts="start",
        severity=pl.when(failed).then(pl.lit("ERROR")).otherwise(pl.lit("INFO")),
        body=pl.when(failed).then(pl.lit("no rows left")).otherwise(pl.lit("handled")),
        template_id=pl.when(failed).then(pl.lit("t1")).otherwise(pl.lit("t0")),
    )
    texts = {"template_id": ["t0", "t1"], "template": ["handled", "no rows left"]}
    return {"logs": rows, "templates": pl.DataFrame(texts)}


def fill(lake: Lake, tables: Mapping[str, pl.DataFrame]) -> Lake:
    """The tables in a lake, with what is derived of spans day by day."""
    lake.create()
    for name, rows in tables.items():
        _add(lake, name, rows)
    if "spans" in tables:
        whole = _fit("spans", tables["spans"])
        for day in whole.partition_by("date"):
            for name, rows in derive.of(day).items():
                _add(lake, name, rows)
    return lake


def _fit(name: str, rows: pl.DataFrame) -> pl.DataFrame:
    return pl.concat([empty(TABLES[name]), rows], how="diagonal_relaxed").select(
        TABLES[name].schema.names
    )


def _add(lake: Lake, name: str, rows: pl.DataFrame) -> None:
    if rows.height:
        lake.append(name, _fit(name, rows))
