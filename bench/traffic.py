"""Healthy spans of a small shop, any number of them, made in columns: the same seed, the same rows.

Requests are trees of calls between services with replicas on several hosts: client and server
pairs, internal work, parallel fan-out, retries, queues whose consumers run later, and optional
branches. No span breaks a rule, whatever its kind; one service tells only whole milliseconds.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from lake import TABLES, empty, fit

Rng = np.random.Generator
Longs = npt.NDArray[np.int64]
BEGIN = 1_741_701_600_000_000  # µs
COARSE = "inventory"  # its clock tells whole milliseconds
HOSTS, REPLICAS = 20, 4
Tree = tuple[Any, ...]  # (service, operation, how, share of requests, *children)

SHOP: tuple[tuple[float, Tree], ...] = (
    (0.35, ("frontend", "GET /", "root", 1, ("catalog", "list", "call", 1, ("catalog", "query", "work", 1), ("cache", "get", "call", 0.8)), ("cart", "size", "call", 0.6))),
    (0.25, ("frontend", "GET /item", "root", 1, ("catalog", "item", "call", 1, ("catalog", "query", "work", 1)), ("pricing", "quote", "all", 1), ("inventory", "stock", "all", 1, ("inventory", "select", "work", 0.9)), ("pricing", "quote", "all", 0.5))),
    (0.25, ("frontend", "POST /cart", "root", 1, ("cart", "add", "call", 1, ("cart", "lock", "work", 1, ("cart", "write", "work", 1)), ("inventory", "hold", "call", 1), ("mail", "publish", "queue", 0.7, ("mail", "note", "work", 1))))),
    (0.15, ("frontend", "POST /order", "root", 1, ("checkout", "place", "call", 1, ("cart", "read", "call", 1, ("cache", "get", "call", 0.5)), ("payment", "charge", "call", 1, ("payment", "sign", "work", 1), ("bank", "transfer", "call", 1)), ("payment", "charge", "call", 0.1, ("payment", "sign", "work", 1)), ("shipping", "book", "queue", 0.9, ("shipping", "label", "work", 1), ("inventory", "take", "call", 1)), ("mail", "receipt", "queue", 0.9, ("mail", "render", "work", 1))))),
)  # fmt: skip


class Node(NamedTuple):
    """One span of a request: `parent` is its place in the list, `share` how often it is there."""

    service: str
    operation: str
    kind: str
    parent: int
    how: str
    share: float


@lru_cache
def nodes(which: int) -> list[Node]:
    """The spans of one kind of request, parents first."""
    out: list[Node] = []

    def grow(tree: Tree, parent: int, caller: str) -> None:
        service, operation, how, share, *children = tree
        here = parent
        if how in {"call", "all", "queue"}:
            kind = "producer" if how == "queue" else "client"
            out.append(Node(caller, f"{service} {operation}", kind, here, how, share))
            here, share = len(out) - 1, 1.0
        kind = {"work": "internal", "queue": "consumer"}.get(how, "server")
        inner = {"call": "served", "all": "served", "queue": "consumed"}.get(how, how)
        out.append(Node(service, operation, kind, here, inner, share))
        here = len(out) - 1
        for child in children:
            grow(child, here, service)

    grow(SHOP[which][1], -1, "")
    return out


def spans(count: int, seed: int = 7, minutes: float = 60.0) -> pl.DataFrame:
    """About `count` rows of `raw_spans` in order of arrival, whole traces only."""
    rng = np.random.default_rng(seed)
    weights = np.array([share for share, _ in SHOP])
    sizes = np.array([sum(_present(nodes(i))) for i in range(len(SHOP))])
    traces = rng.multinomial(max(int(count / (weights @ sizes)), 4), weights)
    parts = [_requests(rng, which, int(n), minutes) for which, n in enumerate(traces) if n]
    rows = pl.concat(parts).sort("start", "span_id")
    return fit(TABLES["raw_spans"], _raw(rows, minutes))


def _present(tree: list[Node]) -> list[float]:
    shares: list[float] = []
    for node in tree:
        shares.append(node.share * (shares[node.parent] if node.parent >= 0 else 1.0))
    return shares


def _requests(rng: Rng, which: int, count: int, minutes: float) -> pl.DataFrame:
    tree = nodes(which)
    there = np.ones((len(tree), count), bool)
    for place, node in enumerate(tree):
        there[place] = rng.random(count) < node.share
        if node.parent >= 0:
            there[place] &= there[node.parent]
    begin = BEGIN + rng.integers(0, int(minutes * 60e6), count)
    start, length = _times(rng, tree, there, begin)
    trace = hexes(rng, count, 16)
    names = hexes(rng, len(tree) * count, 8)
    columns = []
    for place, node in enumerate(tree):
        replica = begin // 97 + _number(node.service)
        host = (_number(node.service) * 3 + (replica % REPLICAS) * 5) % HOSTS
        up = names[node.parent * count : (node.parent + 1) * count] if node.parent >= 0 else None
        frame = pl.DataFrame(
            {
                "trace_id": trace,
                "span_id": names[place * count : (place + 1) * count],
                "parent_span_id": up
                if up is not None
                else pl.Series([None] * count, dtype=pl.String),
                "start": start[place],
                "duration": length[place],
                "host": host,
            }
        )
        columns.append(
            frame.filter(pl.Series(there[place])).with_columns(
                pl.lit(node.service).alias("service"),
                pl.lit(node.operation).alias("operation"),
                pl.lit(node.kind).alias("kind"),
            )
        )
    return pl.concat(columns)


def _number(service: str) -> int:
    return sum(service.encode()) % 20


def _times(
    rng: Rng, tree: list[Node], there: npt.NDArray[np.bool_], begin: Longs
) -> tuple[Longs, Longs]:
    """Start and duration of every span, µs: children one after the other, or side by side."""
    size, count = there.shape
    lead = (60 + rng.exponential(220, there.shape)).astype(np.int64)
    tail = (60 + rng.exponential(220, there.shape)).astype(np.int64)
    work = np.exp(rng.normal(6.6, 0.8, there.shape)).astype(np.int64)
    length, at = np.zeros_like(there, np.int64), np.zeros_like(there, np.int64)  # at: within parent
    for place in range(size - 1, -1, -1):
        clock, side, widest = lead[place].copy(), lead[place].copy(), np.zeros(count, np.int64)
        for child in (i for i, node in enumerate(tree) if node.parent == place):
            how = tree[child].how
            if how == "consumed":  # runs when it gets there: after the producer has gone on
                at[child] = work[place] + 2_000 + lead[child] * 20
                continue
            took = np.where(there[child], length[child] + tail[child] // 4, 0)
            if how == "all":
                at[child] = side + lead[child] // 8
                widest = np.maximum(widest, np.where(there[child], at[child] + took, 0))
            else:
                at[child] = clock
                clock = clock + took
                side = clock.copy()
        alone = not any(node.parent == place and node.how != "consumed" for node in tree)
        length[place] = np.maximum(clock, widest) + tail[place] + (work[place] if alone else 0)
    start = np.zeros_like(at)
    for place, node in enumerate(tree):
        start[place] = begin if node.parent < 0 else start[node.parent] + at[place]
    for place, node in enumerate(tree):
        if node.service == COARSE:
            end = (start[place] + length[place]) // 1000 * 1000
            start[place] = start[place] // 1000 * 1000
            length[place] = end - start[place]
    return start, length


def hexes(rng: Rng, count: int, size: int) -> pl.Series:
    """Random ids of `size` bytes as text, none of them small."""
    data = rng.integers(0, 256, (count, size), np.uint8)
    data[:, 0] |= 1
    text = data.tobytes().hex().encode()
    ends = np.arange(count + 1, dtype=np.int64) * (2 * size)
    buffers = [None, pa.py_buffer(ends.tobytes()), pa.py_buffer(text)]
    return pl.Series(pa.Array.from_buffers(pa.large_string(), count, buffers))


def _raw(rows: pl.DataFrame, minutes: float) -> pl.DataFrame:
    taken = datetime.fromtimestamp(BEGIN / 1e6, UTC) + timedelta(minutes=minutes + 15)
    table = TABLES["raw_spans"]
    made = rows.with_columns(
        pl.format("node-{}", "host").alias("host"),
        pl.concat_str(
            pl.lit('[{"key":"http.route","value":"/'),
            "operation",
            pl.lit('"},{"key":"net.peer.port","value":'),
            (pl.col("start") % 50_000).cast(pl.String),
            pl.lit("}]"),
        ).alias("attributes"),
        pl.lit("us").alias("start_unit"),
        pl.from_epoch("start", "us").dt.date().alias("date"),
        pl.lit("jaeger").alias("source"),
        pl.lit("b").alias("batch"),
        pl.int_range(pl.len(), dtype=pl.Int64).alias("arrival"),
        pl.lit(taken).cast(pl.Datetime("us", "UTC")).alias("ingested_at"),
    )
    whole = pl.concat([empty(table), made], how="diagonal_relaxed")
    return whole.select(table.schema.names)
