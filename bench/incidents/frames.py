"""What was played, as rows of the lake's clean tables."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import polars as pl

from bench.incidents.play import Block, Played
from bench.incidents.system import Rng, System
from lake import TABLES, empty
from quality import templates
from quality.slices import derive

PAIRS = pl.List(pl.Struct({"key": pl.String, "value": pl.String}))
ODD = np.uint64(0x9E3779B97F4A7C15)
NS = 1_000_000_000


def hexes(numbers: np.ndarray, salt: int) -> pl.Series:
    """16 hex digits for each number, different for different numbers."""
    mixed = (numbers.astype(np.uint64) + np.uint64(1)) * ODD ^ np.uint64(salt)
    text = mixed.astype(">u8").tobytes().hex().encode()
    return pl.Series(np.frombuffer(text, dtype="S16")).cast(pl.String)


def spans(system: System, played: Played, traits: dict[str, np.ndarray], salt: int) -> pl.DataFrame:
    """Rows of `spans`."""
    parts = [_block(system, block, traits, salt) for block in played.blocks if len(block.number)]
    rows = pl.concat(parts).with_columns(
        pl.col("start_ns")
        .cast(pl.Datetime("ns", "UTC"))
        .cast(pl.Datetime("us", "UTC"))
        .alias("start")
    )
    return fitted(
        "spans", rows.with_columns(pl.col("start").dt.date().alias("date"), weight=pl.lit(1.0))
    )


def _block(system: System, block: Block, traits: dict[str, np.ndarray], salt: int) -> pl.DataFrame:
    step, pods = block.step, system.pods
    place = pl.Series(block.pod, dtype=pl.UInt32)
    mine = pl.DataFrame(
        {
            "name": [p.name for p in pods],
            "service": [p.service for p in pods],
            "node": [p.node for p in pods],
            "cluster": [p.cluster for p in pods],
            "version": [p.version for p in pods],
        }
    )[place]
    parents = hexes(block.parent, salt)
    start = np.round(block.start * NS).astype(np.int64)
    attributes = _attributes(system, block, traits)
    return pl.DataFrame(
        {
            "start_ns": start,
            "duration_ns": np.maximum(
                np.round((block.end - block.start) * NS).astype(np.int64), 1000
            ),
            "trace_id": hexes(block.request, salt ^ 0xABCDEF)
            + hexes(block.request, salt ^ 0x1234567),
            "span_id": hexes(block.number, salt),
            "parent_span_id": parents.set(pl.Series(block.parent < 0), None),
            "service": mine["service"],
            "host": mine["node"],
            "cluster": mine["cluster"],
        }
    ).with_columns(
        operation=pl.lit(step.operation),
        kind=pl.lit(block.kind if system.kinds else None, pl.String),
        status=pl.Series(np.where(block.error, "error", "ok")),
        attributes=attributes,
        resource=pl.concat_list(
            _pair("k8s.pod.name", mine["name"]), _pair("service.version", mine["version"])
        ),
    )


def _attributes(system: System, block: Block, traits: dict[str, np.ndarray]) -> pl.Expr:
    pairs = [_pair("span.path", pl.lit(block.step.operation))]
    service = block.step.service
    if block.kind != "client" and service in traits:
        key, values = system.services[service].attribute or ("", ())
        pairs.append(_pair(key, pl.Series(np.array(values)[traits[service][block.request]])))
    if block.kind == "client":
        key = "db.system" if block.step.kind == "store" else "server.address"
        pairs.append(_pair(key, pl.lit(block.step.peer or service)))
    return pl.concat_list(pairs)


def _pair(key: str, value: pl.Expr | pl.Series) -> pl.Expr:
    return pl.struct(key=pl.lit(key), value=value)


def logs(system: System, played: Played, salt: int, rng: Rng) -> pl.DataFrame:
    """Rows of `logs`, with the template's text beside."""
    parts = []
    for line in played.lines:
        place = pl.Series(line.pod, dtype=pl.UInt32)
        number = pl.Series(rng.integers(2, 500, len(line.pod)).astype(str))
        head, *tail = line.template.split("<n>")
        body = pl.lit(head) if not tail else pl.concat_str([pl.lit(head), number, pl.lit(tail[0])])
        for more in tail[1:]:
            body = pl.concat_str([body, number, pl.lit(more)])
        parts.append(
            pl.DataFrame({"ts": moments(line.at)}).with_columns(
                pod=pl.Series([p.name for p in system.pods])[place],
                service=pl.Series([p.service for p in system.pods])[place],
                node=pl.Series([p.node for p in system.pods])[place],
                cluster=pl.Series([p.cluster for p in system.pods])[place],
                severity=pl.lit(line.severity),
                body=body,
                trace_id=_trace(line.request, salt)
                if system.traced_logs
                else pl.lit(None, pl.String),
            )
        )
    if not parts:
        return empty(TABLES["logs"])
    return templates.assign(pl.concat(parts)).with_columns(pl.col("ts").dt.date().alias("date"))


def _trace(request: np.ndarray, salt: int) -> pl.Series:
    return hexes(request, salt ^ 0xABCDEF) + hexes(request, salt ^ 0x1234567)


def moments(at: np.ndarray) -> pl.Series:
    return pl.Series(np.round(at * 1e6).astype(np.int64)).cast(pl.Datetime("us", "UTC"))


def errors(system: System, played: Played, salt: int) -> pl.DataFrame:
    """Rows of `errors`: what an error tracker holds."""
    parts = []
    for at, pod, request, thrown, text in played.thrown:
        if not len(at):
            continue
        place = pl.Series(pod, dtype=pl.UInt32)
        service = pl.Series([p.service for p in system.pods])[place]
        version = pl.Series([p.version for p in system.pods])[place]
        parts.append(
            pl.DataFrame({"ts": moments(at)}).with_columns(
                pl.col("ts").dt.date().alias("date"),
                event_id=_trace(request, salt ^ 0x77),
                group_id=pl.concat_str(service, pl.lit(thrown), separator="/"),
                project=service,
                service=service,
                release=version,
                level=pl.lit("error"),
                type=pl.lit(thrown),
                message=pl.lit(text),
                trace_id=_trace(request, salt),
            )
        )
    return fitted("errors", pl.concat(parts)) if parts else empty(TABLES["errors"])


def metrics(
    rows: pl.DataFrame, series: pl.DataFrame, salt: int
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows of `samples` and of `series`."""
    named = series.with_columns(series=(pl.col("row").cast(pl.Int64) * 2654435761 + salt % 10**9))
    keys = ("service", "pod", "node", "cluster")
    labels = pl.concat_list(
        [pl.struct(key=pl.lit(key), value=pl.col(key)) for key in keys]
    ).list.filter(pl.element().struct.field("value").is_not_null())
    found = rows.join(named.select(pl.col("row").cast(pl.Int64), "series"), on="row")
    found = found.with_columns(
        ts=(pl.col("at") * 1e6).cast(pl.Int64).cast(pl.Datetime("us", "UTC"))
    ).with_columns(pl.col("ts").dt.date().alias("date"))
    named = named.with_columns(
        labels=labels, first_seen=found["ts"].min(), last_seen=found["ts"].max()
    )
    return fitted("samples", found.drop("row", "at")), fitted("series", named.drop("row", *keys))


def fitted(table: str, rows: pl.DataFrame) -> pl.DataFrame:
    """The rows with every column of the table, what is missing empty."""
    schema = empty(TABLES[table]).schema
    have = [
        pl.lit(None).cast(PAIRS if isinstance(kind, pl.Map) else kind).alias(name)
        for name, kind in schema.items()
        if name not in rows.columns
    ]
    lists = [
        pl.lit([], kind).alias(name)
        for name, kind in schema.items()
        if name in {"faults", "repaired", "events", "links", "parameters"}
        and name not in rows.columns
    ]
    return rows.with_columns(have).with_columns(lists).select(schema.names())


def summaries(rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """`red` and `edges` of the spans."""
    made = derive.of(rows)
    return made["red"], made["edges"]


def utc(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)
