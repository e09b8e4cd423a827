"""Raw spans of any number for the benchmarks of repair, made in columns: a seed gives the same rows.

A trace is a request through six services: twelve spans, client and server of each call, two to
three levels deep, spread over one day, 128-bit random trace ids and 64-bit random span ids. Six
tags as Jaeger's JSON text (kind, method, status code out of 4, route out of 12, peer port out of
500, customer tier out of 4) and the pod as resource. Faults go to `faulty` of the spans, evenly over
damaged, truncated, missing and upper-case trace ids, doubles, negative durations, another time
unit, lost parents; one host's clock is `skew` off.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from lake import TABLES, UNPLACED, empty
from lake.stage import Staged, place, stage

SERVICES = np.array(["frontend", "checkout", "cart", "pricing", "inventory", "payment"])
OWNER = np.array([0, 0, 1, 1, 2, 0, 3, 3, 4, 1, 5, 0])  # service of each place in a trace
PARENT = np.array([-1, 0, 1, 2, 3, 0, 5, 6, 7, 2, 9, 0])
DEPTH = np.array([0, 1, 2, 3, 4, 1, 2, 3, 4, 3, 4, 1])
KIND = np.array(["server", "client", "server", "client", "server", "client", "server", "client",
                 "server", "client", "server", "internal"])  # fmt: skip
SPANS = len(OWNER)
DAY = date(2025, 3, 11)
BEGIN = 1_741_651_200_000_000  # µs
INGESTED = datetime(2025, 3, 12, 6, tzinfo=UTC)
FAULTS = 8
EACH = 1_000_000  # spans of a batch


def raw_spans(
    count: int, seed: int = 0, faulty: float = 0.001, skew: int = 80_000, batch: str = "b"
) -> pl.DataFrame:
    """Rows of `raw_spans` in its order, `count` or up to 11 fewer and the doubles planted."""
    rng = np.random.default_rng(seed)
    traces = count // SPANS
    place = np.tile(np.arange(SPANS), traces)
    trace = np.repeat(np.arange(traces), SPANS)
    ids = rng.integers(1, 1 << 63, traces * SPANS, np.uint64)
    parent = np.where(PARENT[place] < 0, 0, ids[trace * SPANS + np.maximum(PARENT[place], 0)])
    begin = BEGIN + rng.integers(0, 86_000_000_000, traces)
    length = rng.integers(40_000, 400_000, traces)
    slack = length[trace] // 100 + rng.integers(0, 200, len(trace))
    start = begin[trace] + place * 50 + DEPTH[place] * slack
    took = np.maximum(length[trace] - 2 * DEPTH[place] * slack - place * 50, 100)
    host = (OWNER[place] * 4 + (trace % 4)) % 20
    start = start + np.where(host == 7, skew, 0)
    frame = pl.DataFrame(
        {
            "trace": trace,
            "place": place,
            "trace_id": _hexes(rng.integers(1, 1 << 63, (traces, 2), np.uint64), trace),
            "span_id": _hexes(ids[:, None]),
            "parent_span_id": pl.Series(_hexes(parent[:, None])).set(pl.Series(parent == 0), None),
            "service": SERVICES[OWNER[place]],
            "host": host,
            "start": start,
            "duration": took,
            "code": rng.choice([200, 200, 200, 201, 404, 500], len(trace)),
            "port": 32_000 + rng.integers(0, 500, len(trace)),
            "tier": rng.choice(["free", "basic", "gold", "partner"], traces)[trace],
            "kind": KIND[place],
        }
    )
    frame = _spoiled(_told(frame, batch), rng, faulty)
    table = TABLES["raw_spans"]
    whole = pl.concat([empty(table), frame.drop("trace", "place")], how="diagonal")
    return whole.select(table.schema.names).sort("trace_id", "arrival", nulls_last=True)


def _hexes(words: np.ndarray, index: np.ndarray | None = None) -> pl.Series:
    """Rows of 64-bit words as hex text."""
    size = words.shape[1] * 8
    plain = pa.py_buffer(words.astype(">u8").tobytes())
    binary = pa.Array.from_buffers(pa.binary(size), len(words), [None, plain])
    texts = pl.Series(pl.from_arrow(binary)).bin.encode("hex")
    return texts if index is None else texts.gather(pl.Series(index))


def _told(frame: pl.DataFrame, batch: str) -> pl.DataFrame:
    """With what the source says beside ids and times."""
    host = pl.format("node-{}", "host")
    return frame.select(
        "trace", "place", "trace_id", "span_id", "parent_span_id", "service",
        pl.format("{} {}", pl.when(pl.col("kind") == "client").then(pl.lit("GET")).otherwise(
            pl.lit("/api/v1")), "place").alias("operation"),
        host.alias("host"),
        "start", pl.lit("us").alias("start_unit"), "duration",
        pl.concat_str(*_tags(), pl.lit("]")).alias("attributes"),
        pl.concat_str(pl.lit('[{"key":"k8s.pod.name","type":"string","value":"'), "service",
                      pl.lit("-7d9f8b6c5-"), "host", pl.lit('"}]')).alias("resource"),
        pl.lit(DAY).alias("date"), pl.lit("jaeger").alias("source"), pl.lit(batch).alias("batch"),
        pl.int_range(pl.len(), dtype=pl.Int64).alias("arrival"),
        pl.lit(INGESTED).cast(pl.Datetime("us", "UTC")).alias("ingested_at"),
    )  # fmt: skip


def _tags() -> list[pl.Expr]:
    """The text of six tags, in pieces."""

    def string(key: str, value: pl.Expr) -> list[pl.Expr]:
        return [pl.lit(f'{{"key":"{key}","type":"string","value":"'), value, pl.lit('"},')]

    def number(key: str, value: pl.Expr) -> list[pl.Expr]:
        return [
            pl.lit(f'{{"key":"{key}","type":"int64","value":'),
            value.cast(pl.String),
            pl.lit("},"),
        ]

    whole = [
        pl.lit("["),
        *string("span.kind", pl.col("kind")),
        *string("http.method", pl.lit("GET")),
        *number("http.status_code", pl.col("code")),
        *string("http.route", pl.format("/api/v1/items/{}", "place")),
        *number("net.peer.port", pl.col("port")),
        *string("customer.tier", pl.col("tier")),
    ]
    return [*whole[:-1], pl.lit('"}')]


def _spoiled(frame: pl.DataFrame, rng: np.random.Generator, faulty: float) -> pl.DataFrame:
    """One fault in a span at most."""
    fault = np.where(rng.random(frame.height) < faulty, rng.integers(0, FAULTS, frame.height), -1)
    frame = frame.with_columns(pl.Series("fault", fault))
    trace, what = pl.col("trace_id"), pl.col("fault")
    last = pl.when(trace.str.ends_with("0")).then(pl.lit("7")).otherwise(pl.lit("0"))
    lost = (what == 7) & pl.col("place").is_in([1, 5, 9])
    doubles = frame.filter(what == 4).with_columns(arrival=pl.col("arrival") + frame.height)
    spoiled = pl.concat([frame, doubles]).filter(~lost)
    return spoiled.with_columns(
        pl.when(what == 0).then(trace.str.slice(0, 31) + last)
        .when(what == 1).then(trace.str.slice(16))
        .when(what == 2).then(None)
        .when(what == 3).then(trace.str.to_uppercase())
        .otherwise(trace).alias("trace_id"),
        pl.when(what == 5).then(pl.col("start") + pl.col("duration"))
        .when(what == 6).then(pl.col("start") * 1000).otherwise("start").alias("start"),
        pl.when(what == 5).then(-pl.col("duration"))
        .when(what == 6).then(pl.col("duration") * 1000).otherwise("duration").alias("duration"),
        pl.when(what == 6).then(pl.lit(UNPLACED)).otherwise("date").alias("date"),
    ).drop("fault")  # fmt: skip


def batch(root: str, number: int, count: int, faulty: float) -> tuple[list[Staged], int]:
    """The files of one batch, and its bytes as Arrow."""
    rows = raw_spans(count, number, faulty, batch=f"made-{number}")
    size = rows.to_arrow(compat_level=pl.CompatLevel.oldest()).nbytes
    return stage(Path(root) / "raw_spans", TABLES["raw_spans"], rows), size


def clean(root: Path, numbers: Sequence[int], of: int) -> tuple[list[Staged], list[str]]:
    """Files of the table `spans` with a million healthy spans each, as the steps of a repair write
    them, and one trace of each. Trace ids of file n are its own: the n-th of `of` ranges, as a
    repair divides a day; everything else is the same in the files of one call."""
    from quality.slices import finish, judge, plan

    rows = raw_spans(EACH, numbers[0], 0, skew=0)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        rows.drop("date").write_parquet(folder / "raw.parquet")
        (one,) = plan.slices([(str(folder / "raw.parquet"), DAY)], 2 * EACH)
        judge.judged(one, folder)
        (made,) = finish.finished(one, folder, folder / "spans", [], [DAY]).staged
        found = pq.read_table(folder / "spans" / made.path, partitioning=None)
    staged, traces = [], []
    for number in numbers:
        ids = _moved(pl.Series(pl.from_arrow(found["trace_id"])), number, of)
        column = found.schema.get_field_index("trace_id")
        whole = found.set_column(
            column, "trace_id", ids.to_arrow(compat_level=pl.CompatLevel.oldest())
        )
        staged.append(place(root / "spans", TABLES["spans"], made.partition, whole))
        traces.append(str(ids[len(ids) // 3]))
    return staged, traces


def _moved(ids: pl.Series, number: int, of: int) -> pl.Series:
    """Ids spread over all numbers, moved into the range of that number, and unlike others there."""
    head = ids.str.slice(0, 4).str.to_integer(base=16).cast(pl.Int64)
    heads = ((head + number * 65_536) // of).to_numpy() << 48
    ranged = _hexes(heads[:, None].astype(np.uint64))
    return (ranged.str.slice(0, 4) + f"{number:04x}" + ids.str.slice(8)).alias("trace_id")
