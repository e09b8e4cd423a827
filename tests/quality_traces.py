"""Small generated traces for the tests of quality: true ones, and faults planted into them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl

from lake import TABLES, empty, fit
from quality import frame

Rng = np.random.Generator
Row = dict[str, Any]

BEGIN = 1_741_700_000_000_000  # µs
INGESTED = datetime(2025, 3, 12, tzinfo=UTC)
SERVICES = ("frontend", "checkout", "cart", "payment", "catalog")
TAGS = '[{"key":"span.kind","type":"string","value":"%s"},{"key":"x","type":"int64","value":%d}]'


def rows(seed: int, traces: int = 6, offsets: dict[str, int] | None = None) -> list[Row]:
    """The spans of some requests, as raw rows; every service has a host of its own.

    `offsets` are added to what a service's clock shows, in µs.
    """
    rng = np.random.default_rng(seed)
    out: list[Row] = []
    for number in range(traces):
        trace = _hex(rng, 32)
        begin = BEGIN + number * 700_000 + int(rng.integers(0, 1_000))
        root = _row(trace, _hex(rng, 16), None, 0, "server", begin, int(rng.integers(3e4, 9e4)))
        out += [root, *_calls(rng, root, 0, 3)]
    for row in out:
        row["start"] += (offsets or {}).get(row["service"], 0)
    return out


def _calls(rng: Rng, parent: Row, service: int, depth: int) -> list[Row]:
    """One or two calls one after the other inside a span, each with its server's side."""
    if depth == 0 or parent["duration"] < 4_000:
        return []
    out: list[Row] = []
    count = int(rng.integers(1, 3))
    share = parent["duration"] // count
    for number in range(count):
        callee = (service + 1 + number) % len(SERVICES)
        start = parent["start"] + number * share + int(rng.integers(50, 200))
        length = share - int(rng.integers(300, 600))
        client = _row(
            parent["trace_id"], _hex(rng, 16), parent["span_id"], service, "client", start, length
        )
        lag, back = int(rng.integers(40, 300)), int(rng.integers(40, 300))
        server = _row(
            parent["trace_id"],
            _hex(rng, 16),
            client["span_id"],
            callee,
            "server",
            start + lag,
            length - lag - back,
        )
        out += [client, server, *_calls(rng, server, callee, depth - 1)]
    return out


def _row(
    trace: str, span: str, parent: str | None, service: int, kind: str, start: int, duration: int
) -> Row:
    return {
        "trace_id": trace,
        "span_id": span,
        "parent_span_id": parent,
        "service": SERVICES[service],
        "operation": f"{kind} {service}",
        "host": f"node-{service}",
        "start": start,
        "start_unit": "us",
        "duration": duration,
        "attributes": TAGS % (kind, start % 7),
    }


def _hex(rng: Rng, size: int) -> str:
    return "1" + "".join("0123456789abcdef"[i] for i in rng.integers(0, 16, size - 1))


def raw(found: list[Row]) -> pl.DataFrame:
    """Rows as the table `raw_spans` holds them, in the order given."""
    table = TABLES["raw_spans"]
    made = pl.DataFrame(found, infer_schema_length=None).with_columns(
        date=pl.from_epoch("start", "us").dt.date(),
        source=pl.lit("jaeger"),
        batch=pl.lit("b.1"),
        arrival=pl.int_range(pl.len(), dtype=pl.Int64),
        ingested_at=pl.lit(INGESTED).cast(pl.Datetime("us", "UTC")),
    )
    whole = pl.concat([empty(table), made], how="diagonal_relaxed")
    return fit(table, whole.select(table.schema.names)).sort("batch", "arrival")


def narrow(found: list[Row]) -> pl.DataFrame:
    """Rows as the working frame of the rules."""
    return frame.narrow(raw(found))


Plant = Callable[[Row, Rng], list[Row]]


def _format(row: Row, rng: Rng) -> list[Row]:
    column = ("trace_id", "span_id")[int(rng.integers(2))]
    right = str(row[column])
    ways = [right.upper() + "", f"0x{right}", str(int(right, 16)), f"{right[:8]}-{right[8:]}"]
    row[column] = ways[int(rng.integers(1, 4))]
    return []


def _truncated(row: Row, _rng: Rng) -> list[Row]:
    row["trace_id"] = row["trace_id"][16:]
    return []


def _missing(row: Row, rng: Rng) -> list[Row]:
    row["trace_id"] = [None, "", "0" * 32][int(rng.integers(3))]
    return []


def _corrupt(row: Row, rng: Rng) -> list[Row]:
    place = int(rng.integers(32))
    text = row["trace_id"]
    digit = "0123456789abcdef"[(int(text[place], 16) + int(rng.integers(1, 16))) % 16]
    row["trace_id"] = text[:place] + digit + text[place + 1 :]
    return []


def _double(row: Row, rng: Rng) -> list[Row]:
    copy = dict(row)
    if rng.random() < 0.5:
        copy["attributes"] = None
    return [copy]


def _negative(row: Row, _rng: Rng) -> list[Row]:
    row["start"], row["duration"] = row["start"] + row["duration"], -row["duration"]
    return []


def _unit(row: Row, rng: Rng) -> list[Row]:
    row["start"], row["duration"] = row["start"] * 1000, row["duration"] * 1000
    return []


def _implausible(row: Row, rng: Rng) -> list[Row]:
    row["start"] = [0, 4_102_444_800_000_000][int(rng.integers(2))]
    return []


PLANTS: dict[str, Plant] = {
    "id_format": _format,
    "id_truncated": _truncated,
    "id_missing": _missing,
    "id_corrupt": _corrupt,
    "span_duplicate": _double,
    "duration_negative": _negative,
    "time_unit": _unit,
    "time_implausible": _implausible,
}


def spoiled(seed: int, faults: int = 12, only: str | None = None) -> tuple[list[Row], list[Row]]:
    """(rows with faults planted, the same rows without), each fault in a row of its own; a double
    stands at the end, where the true rows have its original."""
    rng = np.random.default_rng([seed, 1])
    true = rows(seed)
    damaged = [dict(row) for row in true]
    chosen = rng.permutation(len(damaged))[:faults]
    extra: list[Row] = []
    right: list[Row] = []
    for place in chosen.tolist():
        rule = only or list(PLANTS)[int(rng.integers(len(PLANTS)))]
        more = PLANTS[rule](damaged[place], rng)
        extra += more
        right += [dict(true[place]) for _ in more]
    return damaged + extra, true + right
