"""The spans of a big reply of Jaeger's query API in columns, by a compiled loop.

The loop (`ingest.jaeger_compiled`) writes down where each field stands; their texts are then copied
column by column. What it does not read it leaves to `ingest.jaeger_json`: a whole reply, or
single spans.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa

EDGE = b"\0"  # stands before and after what the loop reads
ENOUGH = 8 << 20  # bytes for which it pays to load the loop
USUAL = 256  # bytes that a span has at least; where they have less, it takes another try
MOST = (1 << 31) - 1  # bytes whose places it can write down
ODD = 0.1  # of the spans may be left; where there are more, the whole reply is


class Scan(NamedTuple):
    """The `traces` of a reply and its `errors` (JSON, or nothing); `columns` of raw_spans; the
    number of each span's origin in `codes` (-1: none), of `origins` (JSON of the service's name and
    of the tags); `odd` spans (JSON), whose columns still want to be filled, by their row."""

    traces: int
    errors: bytes
    columns: dict[str, pl.Series]
    codes: Any
    origins: list[tuple[bytes, bytes]]
    odd: list[tuple[int, bytes]]


@cache
def compiled() -> ModuleType | None:
    """The compiled loop, where numba is installed."""
    try:
        return import_module("ingest.jaeger_compiled")
    except ImportError:
        return None


def read(content: bytes | memoryview) -> Scan | None:
    """What a reply between two `EDGE` holds; None where that is for others to say."""
    if not ENOUGH <= len(content) <= MOST or (kernel := compiled()) is None:
        return None
    text = np.frombuffer(content, np.uint8)
    if text.max() > 127 and not _is_utf8(content):
        return None
    good, told, spans, times, origins = _tables(text, kernel)
    odd = np.flatnonzero(spans[:, kernel.ODD]).tolist()
    if not good or len(odd) > ODD * len(spans):
        return None

    def bytes_at(row: Any, column: int) -> bytes:
        return bytes(content[row[column] : row[column + 1]])

    def texts(column: int) -> pl.Series:
        offsets, copied = kernel.gathered(text, spans[:, column], spans[:, column + 1])
        buffers = pa.py_buffer(offsets), pa.py_buffer(copied)
        return pl.Series(pa.LargeStringArray.from_buffers(len(spans), *buffers))

    def number(column: int, empty: int) -> pl.Series:
        return pl.Series(times[:, column]).set(pl.Series(spans[:, empty] > 0), None)

    columns = {
        "trace_id": texts(kernel.TRACE),
        "span_id": texts(kernel.SPAN),
        "parent_span_id": texts(kernel.PARENT).set(pl.Series(spans[:, kernel.PARENT] < 0), None),
        "operation": texts(kernel.OPERATION),
        "start": number(0, kernel.NO_START),
        "duration": number(1, kernel.NO_DURATION),
        "attributes": texts(kernel.TAGS),
        "events": texts(kernel.LOGS),
    }
    return Scan(
        int(told[kernel.TRACES]),
        bytes_at(told, kernel.ERRORS),
        columns,
        spans[:, kernel.ORIGIN],
        [(bytes_at(one, kernel.SERVICE), bytes_at(one, kernel.ABOUT)) for one in origins.tolist()],
        [(row, bytes_at(spans[row], kernel.WHOLE)) for row in odd],
    )


def _tables(text: Any, kernel: ModuleType) -> tuple[bool, Any, Any, Any, Any]:
    """Whether a reply could be read, and what the loop tells: about it, spans, and origins."""
    spans, processes = len(text) // USUAL + 1, 1024
    while True:
        tables = (
            np.empty((spans, kernel.WIDTH), np.int32),
            np.empty((spans, 2), np.int64),
            np.empty((processes, 4), np.int32),
            np.empty(processes, np.uint64),
            np.full(4 * processes, -1, np.int64),
            np.empty((processes, 3), np.int32),
            np.empty(kernel.DEEP, np.uint8),
            np.empty(4, np.int32),
        )
        told = np.zeros(kernel.TOLD, np.int64)
        good = kernel.scan(text, tables, told)
        if not told[kernel.FULL]:
            count, known = told[kernel.SPANS], told[kernel.ORIGINS]
            return good, told, tables[0][:count], tables[1][:count], tables[2][:known]
        spans, processes = 4 * spans, 4 * processes


def _is_utf8(content: bytes | memoryview) -> bool:
    try:
        str(content, "utf-8")
    except UnicodeDecodeError:
        return False
    return True
