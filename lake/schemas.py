"""Every table of the lake: columns, types, partitioning and order, in this one place.

Timestamps are microseconds in UTC, ids lowercase hex text, attributes map<string, string>.
A row's `date` is its UTC event day and the partition it lies in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import pyarrow as pa

FORMAT = 1  # raised with every change an older rootlake could not read
UNPLACED = date(1970, 1, 1)  # the partition of rows whose event day cannot be believed
FIRST_DAY = date(2000, 1, 1)

TEXT, LONG, INT, REAL, FLAG = pa.string(), pa.int64(), pa.int32(), pa.float64(), pa.bool_()
DAY, TIME = pa.date32(), pa.timestamp("us", tz="UTC")
TEXTS, TAGS = pa.list_(pa.string()), pa.map_(pa.string(), pa.string())
EVENTS = pa.list_(pa.struct([("ts_ns", LONG), ("name", TEXT), ("attributes", TAGS)]))
LINKS = pa.list_(pa.struct([("trace_id", TEXT), ("span_id", TEXT)]))
FRAMES = pa.list_(pa.struct([("file", TEXT), ("function", TEXT), ("line", INT), ("in_app", FLAG)]))

Columns = Mapping[str, pa.DataType]

PLACE: Columns = {"cluster": TEXT, "namespace": TEXT, "environment": TEXT}
DELIVERY: Columns = {"source": TEXT, "batch": TEXT, "arrival": LONG, "ingested_at": TIME}


@dataclass(frozen=True)
class Table:
    """One Delta table: its columns in order, how it is cut into partitions and sorted within.

    `sort_by` names columns; `minute(column)` is that column cut to the minute.
    `bloom` names columns that get a Parquet bloom filter, for finding one value among many.
    """

    name: str
    schema: pa.Schema
    sort_by: tuple[str, ...]
    partition_by: tuple[str, ...] = ()
    bloom: tuple[str, ...] = ()


def _texts(*names: str) -> Columns:
    return dict.fromkeys(names, TEXT)


def _event(
    name: str, columns: Columns, sort_by: tuple[str, ...], bloom: tuple[str, ...] = ()
) -> Table:
    """A table of events: partitioned by day, with the place every event happened in."""
    place = {key: kind for key, kind in PLACE.items() if key not in columns}
    raw = name.startswith("raw_")
    tail = {**place, **(DELIVERY if raw else {})}
    schema = pa.schema(list({"date": DAY, **columns, **tail}.items()))
    return Table(name, schema, sort_by, ("date",), bloom)


def _plain(
    name: str, columns: Columns, sort_by: tuple[str, ...], partition_by: tuple[str, ...] = ()
) -> Table:
    return Table(name, pa.schema(list(columns.items())), sort_by, partition_by)


_RAW_SPAN: Columns = {
    **_texts("trace_id", "span_id", "parent_span_id", "service", "operation", "kind", "host"),
    "start": LONG,
    "start_unit": TEXT,
    "duration": LONG,
    **_texts("status", "attributes", "resource", "events", "links"),
}
_SPAN: Columns = {
    "start": TIME,
    **_texts("trace_id", "span_id", "parent_span_id", "service", "operation", "kind", "host"),
    **PLACE,
    "start_ns": LONG,
    "duration_ns": LONG,
    "status": TEXT,
    "weight": REAL,
    "attributes": TAGS,
    "resource": TAGS,
    "events": EVENTS,
    "links": LINKS,
    "faults": TEXTS,
    "repaired": TEXTS,
    "clock_offset_ns": LONG,
    "clock_error_ns": LONG,
}
_SAMPLE: Columns = {"ts": TIME, "metric": TEXT, "series": LONG, "value": REAL}
_HISTOGRAM: Columns = {
    "ts": TIME,
    "metric": TEXT,
    "series": LONG,
    "count": REAL,
    "sum": REAL,
    "schema": INT,
    "zero_threshold": REAL,
    "zero_count": REAL,
    "positive_spans": pa.list_(pa.struct([("offset", INT), ("length", INT)])),
    "positive_deltas": pa.list_(LONG),
    "negative_spans": pa.list_(pa.struct([("offset", INT), ("length", INT)])),
    "negative_deltas": pa.list_(LONG),
}
_EXEMPLAR: Columns = {
    "ts": TIME,
    "metric": TEXT,
    "series": LONG,
    "value": REAL,
    **_texts("trace_id", "span_id"),
}
_ERROR: Columns = {
    "ts": TIME,
    **_texts("event_id", "group_id", "project", "service", "release", "environment", "level"),
    **_texts("type", "message", "culprit"),
    "stacktrace": FRAMES,
    **_texts("trace_id", "span_id", "user_hash"),
    "tags": TAGS,
    "received_at": TIME,
    "sent_at": TIME,
}
_LOG: Columns = {
    "ts": TIME,
    **_texts("service", "pod", "node", "severity", "body", "trace_id", "span_id"),
    "attributes": TAGS,
}
_LOG_CLEAN: Columns = {**_LOG, "faults": TEXTS, "template_id": TEXT, "parameters": TEXTS}
_DURATIONS: Columns = {f"duration_p{q}_ns": LONG for q in (50, 90, 95, 99)}
_SELF: Columns = {f"self_p{q}_ns": LONG for q in (50, 90, 95, 99)}
_RED: Columns = {
    "minute": TIME,
    **_texts("service", "operation", "kind"),
    "calls": REAL,
    "errors": REAL,
    **_DURATIONS,
    **_SELF,
    "sketch": pa.binary(),
}
_EDGE: Columns = {
    "minute": TIME,
    **_texts("caller", "callee"),
    "calls": REAL,
    "errors": REAL,
    **_DURATIONS,
}
_CHANGE: Columns = {
    "ts": TIME,
    **_texts("kind", "service", "ref", "author", "message"),
    "files": TEXTS,
    **_texts("diff", "before", "after"),
}
_REPAIR: Columns = {
    "date": DAY,
    **_texts("run_id", "table_name", "row_key", "trace_id", "span_id", "rule"),
    "rule_version": INT,
    **_texts("column_name", "before", "after"),
    "row_count": LONG,
    "confidence": REAL,
    "raw_version": LONG,
    "recorded_at": TIME,
}
_SCORE: Columns = {
    **_texts("run_id", "table_name"),
    "date": DAY,
    **_texts("service", "check_name"),
    **dict.fromkeys(("rows", "faulty", "repaired", "quarantined"), LONG),
    "share": REAL,
    "recorded_at": TIME,
}
_QUARANTINE: Columns = {
    **_texts("table_name", "reason", "raw_row", "source", "batch", "run_id"),
    "recorded_at": TIME,
}
_SERIES: Columns = {
    "metric": TEXT,
    "series": LONG,
    "labels": TAGS,
    **_texts("type", "unit", "help"),
    "first_seen": TIME,
    "last_seen": TIME,
}
_TEMPLATE: Columns = {
    **_texts("template_id", "template", "intent"),
    "intent_confidence": REAL,
    "labelled_by": TEXT,
    "first_seen": TIME,
    "last_seen": TIME,
    "count": LONG,
}
_INCIDENT: Columns = {
    "incident_id": TEXT,
    "opened_at": TIME,
    "closed_at": TIME,
    "onset": TIME,
    **_texts("trigger", "service", "severity", "status"),
    "labels": TAGS,
}
_DIAGNOSIS: Columns = {
    **_texts("incident_id", "run_id"),
    "recorded_at": TIME,
    **_texts("model", "verdict"),
    "confidence": REAL,
    **_texts("suspects", "evidence", "propagation", "ruled_out", "missing", "cost"),
    "duration_ms": LONG,
    "answer": TEXT,  # the whole object `diagnose --json` prints
}
_CASE: Columns = {
    **_texts("case_id", "title", "symptoms", "signature", "root_cause", "fix", "outcome"),
    "verified": FLAG,
    "sources": TEXTS,
    "incident_id": TEXT,
    "created_at": TIME,
}
_SUPPRESSION: Columns = {"rule": TEXT, "run": TEXT, "date": DAY, "reason": TEXT, "since": TIME}

_SAMPLES, _RED_ORDER = ("metric", "series", "ts"), ("minute", "service", "operation")
_EDGE_ORDER = ("minute", "caller", "callee")

_ALL = (
    _event("raw_spans", _RAW_SPAN, ("trace_id", "arrival")),
    _event("spans", _SPAN, ("minute(start)", "service", "operation", "start"), ("trace_id",)),
    _event("raw_samples", _SAMPLE, _SAMPLES),
    _event("samples", {**_SAMPLE, "faults": TEXTS}, _SAMPLES),
    _plain("series", _SERIES, ("metric", "series")),
    _event("raw_histograms", _HISTOGRAM, _SAMPLES),
    _event("histograms", {**_HISTOGRAM, "faults": TEXTS}, _SAMPLES),
    _event("exemplars", _EXEMPLAR, ("metric", "ts")),
    _event("raw_errors", _ERROR, ("project", "ts")),
    _event("errors", {**_ERROR, "faults": TEXTS}, ("project", "ts")),
    _event("raw_logs", {**_LOG, "partial": FLAG}, ("minute(ts)", "service", "ts")),
    _event("logs", _LOG_CLEAN, ("minute(ts)", "service", "ts")),
    _plain("templates", _TEMPLATE, ("template_id",)),
    _event("changes", _CHANGE, ("ts",)),
    _plain("repairs", _REPAIR, ("table_name", "row_key"), ("date", "table_name")),
    _plain("suppressions", _SUPPRESSION, ("since",)),
    _plain("quarantine", _QUARANTINE, ("recorded_at",), ("table_name",)),
    _plain("scorecard", _SCORE, ("recorded_at",), ("date", "table_name")),
    _event("red", _RED, _RED_ORDER),
    _event("edges", _EDGE, _EDGE_ORDER),
    _event("raw_edges", _EDGE, _EDGE_ORDER),
    _plain("incidents", _INCIDENT, ("opened_at",)),
    _plain("diagnoses", _DIAGNOSIS, ("recorded_at",)),
    _plain("cases", _CASE, ("case_id",)),
)

TABLES: Mapping[str, Table] = {table.name: table for table in _ALL}
