"""What rows add to the derived tables, kept by time, and those tables made of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from quality import derived
from quality.rules.parent_cycle import parents
from quality.slices import decode

Numbers = npt.NDArray[Any]
MAKE = {"red": derived.red, "edges": derived.edges}


def measured(
    texts: Mapping[str, pa.DictionaryArray],
    start: Numbers,
    took: Numbers,
    parent: Numbers,
    waits: Numbers,
    client: Numbers,
    failed: Numbers,
) -> tuple[pa.Table, pa.Table]:
    """What rows add to `red` and to `edges`, by minute. `parent` is the place of each row's parent
    (-1: none); `texts` the columns `derived.RED`; of a call whose caller's row is a `client`, that
    row tells how long it took."""
    minute = start // derived.MINUTE
    every = {**texts, "self": derived.self_time(start, took, parent, waits)}
    order = np.argsort(minute, kind="stable")
    rows = pa.array(order)
    red = {name: _taken(every[name], rows) for name in derived.RED}
    red |= {"minute": minute[order], "error": failed[order], "duration_ns": took[order]}
    red["self_ns"] = every["self"][order]
    service = texts["service"].indices.fill_null(-1).to_numpy()
    child = order[parent[order] >= 0]
    above = parent[child]
    known = (service[child] >= 0) & (service[above] >= 0) & (service[child] != service[above])
    child, above = child[known], above[known]
    edges = {name: _taken(texts[name], pa.array(child)) for name in derived.PLACE}
    edges["caller"] = _taken(texts["service"], pa.array(above))
    edges["callee"] = _taken(texts["service"], pa.array(child))
    seen = np.where(client[above], took[above], took[child])
    edges |= {"minute": minute[child], "error": failed[child], "duration_ns": seen}
    return pa.table(red), pa.table(edges)


def _taken(column: pa.DictionaryArray, rows: pa.Array) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(column.indices.take(rows), column.dictionary)


def measures(rows: pl.DataFrame) -> tuple[pa.Table, pa.Table]:
    """What rows (of the working frame, or clean) add to `red` and `edges`."""
    parent = parents(rows)
    start, took = (rows[name].fill_null(0).to_numpy() for name in ("start_ns", "duration_ns"))
    waits = (rows["kind"].fill_null("") != "consumer").to_numpy()
    client = (rows["kind"].fill_null("") == "client").to_numpy()
    texts = rows.select(
        "service", "operation", "kind", *derived.PLACE, failed=pl.col("status") == "error"
    )
    arrow = texts.to_arrow(compat_level=pl.CompatLevel.oldest())
    columns = {
        name: arrow[name].cast(pa.string()).combine_chunks().dictionary_encode()
        for name in arrow.column_names
        if name != "failed"
    }
    failed = texts["failed"].fill_null(value=False).to_numpy()
    return measured(columns, start, took, parent, waits, client, failed)


def of(rows: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """The derived tables of clean rows."""
    return {
        name: make([part]) for (name, make), part in zip(MAKE.items(), measures(rows), strict=True)
    }


def keep(folder: Path, name: str, red: pa.Table, edges: pa.Table) -> None:
    """Both into files of the scratch folder."""
    decode.write(str(folder / f"red-{name}"), red)
    decode.write(str(folder / f"edges-{name}"), edges)


def minutes(folder: Path) -> dict[int, int]:
    """How many rows of `red` there are of each minute."""
    counts: dict[int, int] = {}
    for file in folder.glob("red-*"):
        found, many = np.unique(decode.load(str(file))["minute"].to_numpy(), return_counts=True)
        for minute, count in zip(found.tolist(), many.tolist(), strict=True):
            counts[minute] = counts.get(minute, 0) + count
    return counts


def made(folder: Path, low: int, high: int) -> dict[str, pl.DataFrame]:
    """The rows of the derived tables of the minutes low <= minute < high."""
    found = {}
    for table, make in MAKE.items():
        parts = []
        for file in sorted(folder.glob(f"{table}-*")):
            rows = decode.load(str(file))
            first, last = np.searchsorted(rows["minute"].to_numpy(), [low, high])
            parts.append(rows.slice(first, last - first))
        found[table] = make(parts)
    return found
