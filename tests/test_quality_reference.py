"""Errors and logs against spans: their ids, and the clocks of their hosts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from lake import TABLES, Lake, empty, fit
from quality.rules import id_reference
from quality.run import repair
from tests import quality_traces as traces
from tests.conftest import TIMES

TRACE, OTHER, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "ab" * 16, "00f067aa0ba902b7"
AT = 1_741_700_000_000_000_000  # ns
SECOND = 1_000_000_000
DAY_US = 86_400_000_000


def spans(*more: tuple[str, str, str, int]) -> pl.DataFrame:
    """A span of cart that lasts a second, and others (trace, span, service, start)."""
    rows = [(TRACE, SPAN, "cart", AT), *more]
    return pl.DataFrame(
        [(*row, row[3] + SECOND) for row in rows], schema=id_reference.SPANS, orient="row"
    )


def told(
    trace: str | None, span: str | None = SPAN, service: str | None = "cart", at: int = AT
) -> pl.DataFrame:
    """What one line says, told at a time in ns."""
    moment = datetime.fromtimestamp(at // 1_000_000_000, UTC)
    return pl.DataFrame(
        [(0, moment, service, trace, span, list[str]())],
        schema={
            "row": pl.Int64,
            "ts": pl.Datetime("us", "UTC"),
            "service": pl.String,
            "trace_id": pl.String,
            "span_id": pl.String,
            "repaired": pl.List(pl.String),
        },
        orient="row",
    )


DAMAGED = {
    "digits": "4bf92f3577b34da6a3ce929d0e0e0000",
    "half": TRACE[16:].zfill(32),
    "missing": None,
    "of before the trace was joined to its parent's": OTHER,
}


@pytest.mark.parametrize("wrong", [pytest.param(id_, id=name) for name, id_ in DAMAGED.items()])
def test_a_trace_id_no_span_has_becomes_that_of_the_span_it_was_told_in(wrong: str | None) -> None:
    found = id_reference.apply(told(wrong), spans())
    assert found["trace_id"].to_list() == [TRACE]
    assert found["repaired"].to_list() == [["id_reference"]]


@pytest.mark.parametrize(
    ("line", "known"),
    [
        pytest.param(told(TRACE), spans(), id="it is right"),
        pytest.param(told(OTHER, service="mail"), spans(), id="another service"),
        pytest.param(told(OTHER, service=None), spans(), id="no service"),
        pytest.param(told(OTHER, at=AT + 60 * SECOND), spans(), id="another time"),
        pytest.param(told(OTHER, span="1" * 16), spans(), id="no such span"),
        pytest.param(
            told("cd" * 16), spans((OTHER, SPAN, "cart", AT)), id="two traces have the span id"
        ),
        pytest.param(
            told(OTHER), spans((OTHER, "2" * 16, "cart", AT)), id="its own trace was running"
        ),
    ],
)
def test_a_line_stays_where_the_evidence_settles_nothing(
    line: pl.DataFrame, known: pl.DataFrame
) -> None:
    assert_frame_equal(id_reference.apply(line, known), line)


@settings(max_examples=8 * TIMES, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_healthy_lines_stay_damaged_ones_are_mended_twice_is_once_in_any_order(seed: int) -> None:
    known = traces.narrow(traces.rows(seed))
    true = known.select(
        "row", "service", "trace_id", "span_id", "repaired", ts=pl.from_epoch("start_ns", "ns")
    ).with_columns(pl.col("ts").cast(pl.Datetime("us", "UTC")))
    end = pl.col("start_ns") + pl.col("duration_ns")
    named = known.select("trace_id", "span_id", "service", "start_ns", end_ns=end)
    assert_frame_equal(id_reference.apply(true, named), true)
    broken = pl.when(pl.col("row") % 3 == seed % 3).then(pl.lit("f" * 32)).otherwise("trace_id")
    lines = true.with_columns(broken.alias("trace_id"))
    once = id_reference.apply(lines, named)
    assert once["trace_id"].to_list() == true["trace_id"].to_list()
    assert_frame_equal(id_reference.apply(once, named), once)
    mixed = id_reference.apply(lines.sample(fraction=1, shuffle=True, seed=seed), named.reverse())
    assert_frame_equal(mixed.sort("row"), once)


def put(lake: Lake, table: str, rows: list[dict[str, Any]], tags: pl.Series | None = None) -> None:
    """Raw rows as they arrive."""
    extra = {"source": "s", "batch": "b", "ingested_at": traces.INGESTED}
    made = [{**extra, "arrival": place, **row} for place, row in enumerate(rows)]
    fields = {name: [row.get(name) for row in made] for name in TABLES[table].schema.names}
    known = {name: values for name, values in fields.items() if any(v is not None for v in values)}
    made_of = pl.DataFrame(known).with_columns(pl.col("ts").dt.date().alias("date"))
    whole = pl.concat([empty(TABLES[table]), made_of], how="diagonal_relaxed")
    if tags is not None:
        whole = whole.with_columns(tags.cast(pl.Map(pl.String, pl.String)).alias("tags"))
    lake.append(table, fit(TABLES[table], whole.select(TABLES[table].schema.names)))


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """A shop whose cart's clock is 40 ms ahead, with an error and a log line told there: under a
    damaged trace id, 1 ms after their span began by the cart's clock."""
    lake = Lake(tmp_path / "lake").create()
    rows = traces.rows(5, traces=60, offsets={"cart": 40_000})
    lake.append("raw_spans", traces.raw(rows))
    span = next(row for row in rows if row["service"] == "cart" and row["host"])
    moment = datetime.fromtimestamp((span["start"] + 1_000) / 1e6, UTC)
    line = {
        "ts": moment,
        "service": "cart",
        "trace_id": span["trace_id"][:-2] + "zz",
        "span_id": span["span_id"].upper(),
    }
    tags = pl.Series([[{"key": "server_name", "value": span["host"]}]])
    put(lake, "raw_errors", [{**line, "event_id": "e", "project": "p"}], tags)
    put(lake, "raw_logs", [{**line, "body": "sold out", "node": span["host"], "partial": False}])
    return lake


@pytest.mark.parametrize("table", ["errors", "logs"])
def test_ids_and_times_follow_the_spans_and_the_audit_says_so(lake: Lake, table: str) -> None:
    repair(lake)
    raw, clean = lake.read(f"raw_{table}").row(0, named=True), lake.read(table).row(0, named=True)
    span = lake.read("spans").filter(span_id=raw["span_id"].lower()).row(0, named=True)
    assert (clean["trace_id"], clean["span_id"]) == (span["trace_id"], span["span_id"])
    assert abs((clean["ts"] - span["start"]) - timedelta(milliseconds=1)) < timedelta(
        microseconds=2
    )
    audit = lake.read("repairs").filter(table_name=table)
    rules = set(audit["rule"].to_list())
    assert {"id_reference", "id_format", "clock_skew"} <= rules
    moved = audit.filter(rule="clock_skew")
    assert moved["row_count"].to_list() == [1]
    before = lake.version(table)
    repair(lake)
    assert lake.version(table) == before


def test_a_span_that_comes_late_settles_what_a_line_means(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake").create()
    rows = traces.rows(5)
    line = {
        "ts": datetime.fromtimestamp((rows[0]["start"] + 1_000) / 1e6, UTC),
        "service": rows[0]["service"],
        "trace_id": None,
        "span_id": rows[0]["span_id"],
    }
    put(lake, "raw_logs", [{**line, "body": "sold out", "partial": False}])
    repair(lake)
    assert lake.read("logs")["trace_id"].to_list() == [None]
    lake.append("raw_spans", traces.raw(rows))
    repair(lake)
    assert lake.read("logs")["trace_id"].to_list() == [rows[0]["trace_id"]]


def told_at(row: traces.Row, later: int) -> dict[str, Any]:
    """A log line of a span, so many µs after it began, that has lost its trace id."""
    moment = datetime.fromtimestamp((row["start"] + later) / 1e6, UTC)
    named = {"service": row["service"], "trace_id": None, "span_id": row["span_id"]}
    return {**named, "ts": moment, "body": "sold out", "partial": False}


def test_a_late_span_of_the_day_before_settles_what_a_line_means(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake").create()
    rows = traces.rows(5)
    shift = 300_000 + rows[0]["start"] % DAY_US  # to 0.3 s before midnight
    late = [{**row, "start": row["start"] - shift} for row in rows]
    put(lake, "raw_logs", [told_at(late[0], 600_000)])
    assert lake.days("raw_logs")[0] > datetime.fromtimestamp(late[0]["start"] / 1e6, UTC).date()
    repair(lake)
    assert lake.read("logs")["trace_id"].to_list() == [None]
    lake.append("raw_spans", traces.raw(late[:1]))
    repair(lake)
    assert lake.read("logs")["trace_id"].to_list() == [late[0]["trace_id"]]
    version = lake.version("logs")
    assert "logs" not in repair(lake).rows
    assert lake.version("logs") == version


@pytest.mark.parametrize("together", [True, False])
def test_a_line_is_judged_alike_whichever_days_are_made_together(
    tmp_path: Path, *, together: bool
) -> None:
    lake = Lake(tmp_path / "lake").create()
    rows = traces.rows(5)
    far = {**rows[0], "trace_id": OTHER, "start": rows[0]["start"] - 3 * DAY_US}
    lake.append("raw_spans", traces.raw([*rows, far]))
    lines = [told_at(rows[0], 1_000)]
    lines += [{**lines[0], "ts": lines[0]["ts"] - timedelta(days=day)} for day in (1, 2)]
    put(lake, "raw_logs", lines)
    for day in [None] if together else lake.days("raw_logs"):
        repair(lake, [day] if day else None)
    found = lake.read("logs").sort("ts")["trace_id"].to_list()
    assert found == [None, None, rows[0]["trace_id"]]
